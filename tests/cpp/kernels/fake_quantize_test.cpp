#include "kernels/fake_quantize.h"

#include "kernel_rows.h"
#include "kernels/arith.h"

namespace ptqx::kernels {
namespace {

std::vector<Blocks> block_shapes() {
  std::vector<Blocks> shapes;
  for (int64_t n : kLengths) {
    shapes.push_back({1, 1, n});
    shapes.push_back({2, n, 1});
  }
  for (int64_t inner : {2, 3, 7, 9, 15, 16, 17, 25}) {
    for (int64_t channels : {1, 2, 5, 17}) shapes.push_back({2, channels, inner});
  }
  return shapes;
}

TEST(FakeQuantizeRows, test_every_block_shape_equals_the_scalar_truth) {
  for (const Blocks& blocks : block_shapes()) {
    SCOPED_TRACE(std::to_string(blocks.outer) + "x" + std::to_string(blocks.channels) + "x" +
                 std::to_string(blocks.inner));
    const int64_t n = blocks.outer * blocks.channels * blocks.inner;
    const std::vector<float> x = edge_values(n, 0.11F, true);
    const std::vector<int32_t> zero_point = random_codes<int32_t>(blocks.channels, 0, 15);
    std::vector<float> scale(zero_point.size());
    for (size_t k = 0; k < scale.size(); ++k) scale[k] = 0.1F + 0.003F * static_cast<float>(k);
    GuardedBuffer<float> truth(n);
    fake_quantize_rows().front().function(x.data(), blocks, scale.data(), zero_point.data(), 0, 15,
                                          truth.data(), Store::kCached);
    for_each_vector_row(fake_quantize_rows(), [&](FakeQuantizeFn* function) {
      for (Store store : {Store::kCached, Store::kStreamed}) {
        for (int64_t misalignment : {0, 3}) {
          GuardedBuffer<float> y(n, misalignment);
          function(x.data(), blocks, scale.data(), zero_point.data(), 0, 15, y.data(), store);
          expect_same(truth.values(), y.values());
          ASSERT_TRUE(y.guards_intact());
        }
        std::vector<float> in_place = x;
        function(in_place.data(), blocks, scale.data(), zero_point.data(), 0, 15, in_place.data(), store);
        expect_same(truth.values(), in_place);
      }
    });
  }
}

TEST(FakeQuantizeRows, test_is_dequantize_of_quantize_at_every_bit_width) {
  const std::vector<float> x = edge_values(500, 0.07F, false);
  const float scale = 0.07F;
  for (int bits = 2; bits <= 8; ++bits) {
    const int32_t qmax = (1 << bits) - 1;
    for (int32_t zero_point : {0, qmax / 2, qmax}) {
      for (const Row<FakeQuantizeFn>& row : fake_quantize_rows()) {
        if (!isa_supported(row.isa)) continue;
        SCOPED_TRACE(row.name);
        std::vector<float> y(x.size());
        row.function(x.data(), {1, 1, 500}, &scale, &zero_point, 0, qmax, y.data(), Store::kCached);
        std::vector<float> expected(x.size());
        for (size_t i = 0; i < x.size(); ++i) {
          expected[i] = dequantize(quantize(x[i], scale, zero_point, 0, qmax), scale, zero_point);
        }
        expect_same(expected, y);
      }
    }
  }
}

struct Backward {
  std::vector<float> dx;
  double sums[2];
};

Backward run(FakeQuantizeBackwardFn* function, const std::vector<float>& dy, const std::vector<float>& x,
             float scale, int32_t zero_point, int32_t qmin, int32_t qmax, Store store = Store::kCached) {
  const auto n = static_cast<int64_t>(x.size());
  GuardedBuffer<float> dx(n, store == Store::kCached ? 1 : 0);
  Backward result{};
  function(dy.data(), x.data(), n, scale, zero_point, qmin, qmax, dx.data(), store, result.sums);
  EXPECT_TRUE(dx.guards_intact());
  result.dx = dx.values();
  double sums_alone[2];
  function(dy.data(), x.data(), n, scale, zero_point, qmin, qmax, nullptr, store, sums_alone);
  EXPECT_TRUE(same_number(result.sums[0], sums_alone[0]) && same_number(result.sums[1], sums_alone[1]));
  return result;
}

std::vector<float> gradients(int64_t n) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> dy(static_cast<size_t>(n));
  for (float& grad : dy) grad = normal(random);
  return dy;
}

TEST(FakeQuantizeBackwardRows, test_every_length_equals_the_scalar_truth) {
  std::vector<int64_t> lengths = kLengths;
  lengths.push_back(kSumChunk);
  for (int64_t n : lengths) {
    for (bool nonfinite : {false, true}) {
      SCOPED_TRACE(std::to_string(n) + (nonfinite ? " elements with NaN and Inf" : " elements"));
      const std::vector<float> x = edge_values(n, 0.11F, nonfinite);
      const std::vector<float> dy = gradients(n);
      for (int32_t zero_point : {-8, 0, 7}) {
        const Backward truth =
            run(fake_quantize_backward_rows().front().function, dy, x, 0.11F, zero_point, -8, 7);
        for_each_vector_row(fake_quantize_backward_rows(), [&](FakeQuantizeBackwardFn* function) {
          for (Store store : {Store::kCached, Store::kStreamed}) {
            const Backward result = run(function, dy, x, 0.11F, zero_point, -8, 7, store);
            expect_same(truth.dx, result.dx);
            ASSERT_TRUE(same_number(truth.sums[0], result.sums[0])) << truth.sums[0] << " " << result.sums[0];
            ASSERT_TRUE(same_number(truth.sums[1], result.sums[1])) << truth.sums[1] << " " << result.sums[1];
          }
        });
      }
    }
  }
}

TEST(FakeQuantizeBackwardRows, test_hand_computed_gradients) {
  // scale 2, zero point 1, codes 0..3: x / 2 rounds to -1..2 inside.
  const std::vector<float> x = {-4.0F, -2.5F, 1.5F, 5.0F, 6.0F, infinity(), -infinity()};
  const std::vector<float> dy = {1.0F, 2.0F, 4.0F, 8.0F, 16.0F, 32.0F, 64.0F};
  // Steps: -2 (outside), -1.25 -> -1, 0.75 -> 1, 2.5 -> 2 (tie), 3 (outside), outside, outside.
  const std::vector<float> dx = {0.0F, 2.0F, 4.0F, 8.0F, 0.0F, 0.0F, 0.0F};
  const double scale_sum = 1 * -1.0 + 2 * 0.25 + 4 * 0.25 + 8 * -0.5 + 16 * 2.0 + 32 * 2.0 + 64 * -1.0;
  const double zero_point_sum = -2.0 * (1 + 16 + 32 + 64);
  for (const Row<FakeQuantizeBackwardFn>& row : fake_quantize_backward_rows()) {
    if (!isa_supported(row.isa)) continue;
    SCOPED_TRACE(row.name);
    const Backward result = run(row.function, dy, x, 2.0F, 1, 0, 3);
    expect_same(dx, result.dx);
    EXPECT_EQ(result.sums[0], scale_sum);
    EXPECT_EQ(result.sums[1], zero_point_sum);
  }
}

TEST(FakeQuantizeBackwardRows, test_nan_passes_its_gradient_and_reaches_the_scale) {
  std::vector<float> x(40, 1.0F);
  x[20] = nan_value();
  const std::vector<float> dy(40, 1.0F);
  for (const Row<FakeQuantizeBackwardFn>& row : fake_quantize_backward_rows()) {
    if (!isa_supported(row.isa)) continue;
    SCOPED_TRACE(row.name);
    const Backward result = run(row.function, dy, x, 1.0F, 0, -8, 7);
    expect_same(dy, result.dx);
    EXPECT_TRUE(std::isnan(result.sums[0]));
    EXPECT_EQ(result.sums[1], 0.0);
  }
}

}  // namespace
}  // namespace ptqx::kernels
