#include "kernels/quantize.h"

#include <algorithm>

#include "kernel_rows.h"

namespace ptqx::kernels {
namespace {

struct Range {
  int32_t qmin, qmax;
};

std::vector<Range> ranges(bool is_signed) {
  std::vector<Range> all;
  for (int bits = 2; bits <= 8; ++bits) {
    const int32_t levels = 1 << bits;
    if (is_signed) {
      all.push_back({-levels / 2, levels / 2 - 1});
      all.push_back({-levels / 2 + 1, levels / 2 - 1});
    } else {
      all.push_back({0, levels - 1});
    }
  }
  return all;
}

/// Scales around `scale` and zero points over the whole range, both ends first.
struct Channels {
  std::vector<float> scale;
  std::vector<int32_t> zero_point;
};
Channels channels_of(int64_t n, float scale, Range range) {
  std::mt19937 random(7);
  Channels result{std::vector<float>(static_cast<size_t>(n)),
                  random_codes<int32_t>(n, range.qmin, range.qmax)};
  std::uniform_real_distribution<float> factor(0.5F, 2.0F);
  for (float& s : result.scale) s = scale * factor(random);
  if (n > 0) result.zero_point[0] = range.qmin;
  if (n > 1) result.zero_point[1] = range.qmax;
  return result;
}

std::vector<Blocks> block_shapes() {
  std::vector<Blocks> shapes;
  for (int64_t n : kLengths) {
    shapes.push_back({1, 1, n});
    shapes.push_back({2, n, 1});
  }
  for (int64_t inner : {2, 3, 4, 5, 7, 8, 9, 11, 15, 16, 17, 25, 49}) {
    for (int64_t channels : {1, 2, 3, 5, 16, 17}) shapes.push_back({2, channels, inner});
  }
  shapes.push_back({0, 3, 4});
  shapes.push_back({3, 0, 4});
  shapes.push_back({3, 4, 0});
  return shapes;
}

std::string text(const Blocks& blocks, Range range) {
  return "blocks " + std::to_string(blocks.outer) + "x" + std::to_string(blocks.channels) + "x" +
         std::to_string(blocks.inner) + ", codes " + std::to_string(range.qmin) + ".." +
         std::to_string(range.qmax);
}

template <class Code, class Fn>
void expect_quantize_rows_agree(std::span<const Row<Fn>> rows, const Blocks& blocks, Range range) {
  SCOPED_TRACE(text(blocks, range));
  const int64_t n = blocks.outer * blocks.channels * blocks.inner;
  const Channels channels = channels_of(blocks.channels, 0.037F, range);
  const std::vector<float> x = edge_values(n, 0.037F, true);
  GuardedBuffer<Code> truth(n);
  rows.front().function(x.data(), blocks, channels.scale.data(), channels.zero_point.data(), range.qmin,
                        range.qmax, truth.data());
  for_each_vector_row(rows, [&](Fn* function) {
    GuardedBuffer<Code> y(n, 3);
    function(x.data(), blocks, channels.scale.data(), channels.zero_point.data(), range.qmin, range.qmax,
             y.data());
    expect_same(truth.values(), y.values());
    ASSERT_TRUE(y.guards_intact());
  });
}

template <class Code, class Fn>
void expect_dequantize_rows_agree(std::span<const Row<Fn>> rows, const Blocks& blocks, Range codes) {
  SCOPED_TRACE(text(blocks, codes));
  const int64_t n = blocks.outer * blocks.channels * blocks.inner;
  const Channels channels = channels_of(blocks.channels, 0.037F, {-128, 127});
  const std::vector<Code> x = random_codes<Code>(n, codes.qmin, codes.qmax);
  GuardedBuffer<float> truth(n);
  rows.front().function(x.data(), blocks, channels.scale.data(), channels.zero_point.data(), truth.data());
  for_each_vector_row(rows, [&](Fn* function) {
    GuardedBuffer<float> y(n, 3);
    function(x.data(), blocks, channels.scale.data(), channels.zero_point.data(), y.data());
    expect_same(truth.values(), y.values());
    ASSERT_TRUE(y.guards_intact());
  });
}

TEST(QuantizeRows, test_every_block_shape_equals_the_scalar_truth) {
  for (const Blocks& blocks : block_shapes()) {
    expect_quantize_rows_agree<uint8_t>(quantize_u8_rows(), blocks, {0, 255});
    expect_quantize_rows_agree<int8_t>(quantize_s8_rows(), blocks, {-128, 127});
    if (HasFailure()) return;
  }
}

TEST(QuantizeRows, test_every_width_of_2_to_8_bits_equals_the_scalar_truth) {
  for (Range range : ranges(false))
    expect_quantize_rows_agree<uint8_t>(quantize_u8_rows(), {3, 37, 9}, range);
  for (Range range : ranges(true)) expect_quantize_rows_agree<int8_t>(quantize_s8_rows(), {3, 37, 9}, range);
}

TEST(QuantizeRows, test_every_tie_at_every_zero_point) {
  std::vector<float> x;
  for (int k = -300; k <= 300; ++k) x.push_back((static_cast<float>(k) + 0.5F) * 0.25F);
  const auto n = static_cast<int64_t>(x.size());
  const float scale = 0.25F;
  for (const Row<QuantizeU8Fn>& row : quantize_u8_rows()) {
    if (!isa_supported(row.isa)) continue;
    SCOPED_TRACE(row.name);
    for (int32_t zero_point : {0, 1, 127, 128, 255}) {
      std::vector<uint8_t> y(x.size());
      row.function(x.data(), {1, 1, n}, &scale, &zero_point, 0, 255, y.data());
      for (int k = -300; k <= 300; ++k) {
        const int even = k % 2 == 0 ? k : k + 1;  // the even one of k and k + 1
        ASSERT_EQ(y[static_cast<size_t>(k + 300)], std::clamp(even + zero_point, 0, 255))
            << k << " and a half";
      }
    }
  }
}

TEST(QuantizeRows, test_the_smallest_and_largest_scales) {
  for (float scale : {5.4210109e-20F, 1e-10F, 1.0F, 1e30F, 3e38F}) {
    SCOPED_TRACE(scale);
    const std::vector<float> x = edge_values(200, scale, true);
    const int32_t zero_point = 100;
    std::vector<uint8_t> truth(x.size());
    quantize_u8_rows().front().function(x.data(), {1, 1, 200}, &scale, &zero_point, 0, 255, truth.data());
    for_each_vector_row(quantize_u8_rows(), [&](QuantizeU8Fn* function) {
      std::vector<uint8_t> y(x.size());
      function(x.data(), {1, 1, 200}, &scale, &zero_point, 0, 255, y.data());
      expect_same(truth, y);
    });
  }
}

TEST(DequantizeRows, test_every_block_shape_equals_the_scalar_truth) {
  constexpr Range kInt32 = {std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()};
  for (const Blocks& blocks : block_shapes()) {
    expect_dequantize_rows_agree<uint8_t>(dequantize_u8_rows(), blocks, {0, 255});
    expect_dequantize_rows_agree<int8_t>(dequantize_s8_rows(), blocks, {-128, 127});
    expect_dequantize_rows_agree<int32_t>(dequantize_s32_rows(), blocks, kInt32);
    if (HasFailure()) return;
  }
}

TEST(QuantizeNchwToNhwcRows, test_every_channel_count_and_length_is_a_transposed_quantize) {
  const float scale = 0.037F;
  const int32_t zero_point = 121;
  for (int64_t c : {1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 19, 64}) {
    for (int64_t pixels : kLengths) {
      SCOPED_TRACE(std::to_string(c) + " channels, " + std::to_string(pixels) + " pixels");
      const std::vector<float> x = edge_values(c * pixels, scale, true);
      std::vector<uint8_t> planar(x.size());
      quantize_u8_rows().front().function(x.data(), {1, 1, c * pixels}, &scale, &zero_point, 0, 255,
                                          planar.data());
      std::vector<uint8_t> expected(x.size());
      for (int64_t k = 0; k < c; ++k) {
        for (int64_t i = 0; i < pixels; ++i) {
          expected[static_cast<size_t>(i * c + k)] = planar[static_cast<size_t>(k * pixels + i)];
        }
      }
      for (const Row<QuantizeU8NchwToNhwcFn>& row : quantize_u8_nchw_to_nhwc_rows()) {
        if (!isa_supported(row.isa)) continue;
        SCOPED_TRACE(row.name);
        GuardedBuffer<uint8_t> y(c * pixels);
        const int64_t first = pixels / 3;  // in two pieces
        row.function(x.data() + first, c, pixels, pixels - first, scale, zero_point, 0, 255,
                     y.data() + first * c);
        row.function(x.data(), c, pixels, first, scale, zero_point, 0, 255, y.data());
        expect_same(expected, y.values());
        ASSERT_TRUE(y.guards_intact());
      }
    }
  }
}

TEST(Dispatch, test_the_ceiling_chooses_the_row) {
  const Isa before = isa_ceiling();
  for (const Row<QuantizeU8Fn>& row : quantize_u8_rows()) {
    if (!isa_supported(row.isa)) continue;
    set_isa_ceiling(row.isa);
    EXPECT_STREQ(best_row(quantize_u8_rows()).name, row.name);
  }
  set_isa_ceiling(before);
}

}  // namespace
}  // namespace ptqx::kernels
