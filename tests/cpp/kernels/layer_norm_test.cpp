#include "kernels/layer_norm.h"

#include <numeric>

#include "kernel_rows.h"
#include "kernels/arith.h"

namespace ptqx::kernels {
namespace {

constexpr double kEps = 1e-6;

TEST(NormalizeU8Rows, test_every_length_equals_the_scalar_truth) {
  for (int64_t n : kLengths) {
    SCOPED_TRACE(std::to_string(n) + " channels");
    const std::vector<float> x = edge_values(n, 0.1F, true, static_cast<uint32_t>(n));
    const std::vector<float> weight = edge_values(n, 0.01F, false, static_cast<uint32_t>(n) + 1);
    const std::vector<float> bias = edge_values(n, 0.05F, false, static_cast<uint32_t>(n) + 2);
    for (const NormalizeArgs& args :
         {NormalizeArgs{0.3F, 0.7F, weight.data(), bias.data(), 0.1F, 17, 0, 255},
          NormalizeArgs{-12.5F, 1e3F, weight.data(), bias.data(), 2.0F, 3, 1, 14}}) {
      std::vector<uint8_t> truth(static_cast<size_t>(n));
      normalize_u8_rows().front().function(x.data(), n, args, truth.data());
      for_each_vector_row(normalize_u8_rows(), [&](NormalizeU8Fn* function) {
        GuardedBuffer<uint8_t> y(n);
        function(x.data(), n, args, y.data());
        expect_same(truth, y.values());
        EXPECT_TRUE(y.guards_intact());
      });
    }
  }
}

TEST(LayerNorm, test_pixels_have_their_own_mean_and_deviation) {
  // 1, 3: mean 2, deviation 1; 10, 30: mean 20, deviation 10. Both become -1, 1.
  const std::vector<float> x = {1.0F, 3.0F, 10.0F, 30.0F}, weight = {2.0F, 4.0F}, bias = {0.5F, -1.0F};
  std::vector<float> y(4);
  const LayerNormArgs args = {.channels = 2, .weight = weight.data(), .bias = bias.data(), .eps = 1e-12};
  EXPECT_EQ(layer_norm_f32(x.data(), 2, args, y.data()), 0);
  expect_same({-1.5F, 3.0F, -1.5F, 3.0F}, y);
  std::vector<uint8_t> codes(4);
  EXPECT_EQ(layer_norm_u8(x.data(), 2, args, {0.5F, 10}, 0, 15, codes.data()), 0);
  expect_same<uint8_t>({7, 15, 7, 15}, codes);
}

TEST(LayerNorm, test_codes_are_the_quantized_real_values_on_every_instruction_set) {
  constexpr int64_t kPixels = 5;
  constexpr QParams kOutput = {0.03F, 121};
  for (int64_t channels : {1, 3, 16, 96, 127}) {
    const std::vector<float> x = edge_values(kPixels * channels, 0.1F, false, 7);
    const std::vector<float> weight = edge_values(channels, 0.01F, false, 8);
    const std::vector<float> bias = edge_values(channels, 0.01F, false, 9);
    const LayerNormArgs args = {channels, weight.data(), bias.data(), kEps};
    for (Isa isa : kIsas) {
      if (!isa_supported(isa)) continue;
      SCOPED_TRACE(isa_name(isa));
      const Ceiling ceiling(isa);
      std::vector<float> real(x.size());
      layer_norm_f32(x.data(), kPixels, args, real.data());
      std::vector<uint8_t> expected(x.size()), codes(x.size());
      for (size_t i = 0; i < x.size(); ++i) {
        expected[i] = static_cast<uint8_t>(quantize(real[i], kOutput.scale, kOutput.zero_point, 0, 255));
      }
      layer_norm_u8(x.data(), kPixels, args, kOutput, 0, 255, codes.data());
      expect_same(expected, codes);
    }
  }
}

TEST(LayerNorm, test_equal_channels_become_the_bias_and_nonfinite_ones_are_counted) {
  std::vector<float> x(40, 1e30F);
  const std::vector<float> weight(40, 3.0F), bias(40, 0.25F);
  std::vector<float> y(40);
  const LayerNormArgs args = {.channels = 40, .weight = weight.data(), .bias = bias.data(), .eps = kEps};
  EXPECT_EQ(layer_norm_f32(x.data(), 1, args, y.data()), 0);
  expect_same(bias, y);
  x[3] = infinity();
  x[37] = nan_value();
  EXPECT_EQ(layer_norm_f32(x.data(), 1, args, y.data()), 2);
}

}  // namespace
}  // namespace ptqx::kernels
