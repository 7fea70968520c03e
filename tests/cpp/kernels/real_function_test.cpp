#include "kernels/real_function.h"

#include <numbers>

#include "kernel_rows.h"

namespace ptqx::kernels {
namespace {

constexpr RealFunction kAll[] = {RealFunction::kSigmoid, RealFunction::kSilu,     RealFunction::kTanh,
                                 RealFunction::kGelu,    RealFunction::kGeluTanh, RealFunction::kSquare,
                                 RealFunction::kAdd,     RealFunction::kMultiply, RealFunction::kSubtractFrom,
                                 RealFunction::kDivide};

/// Of every size, and edges.
std::vector<float> some_values(int64_t count) {
  std::mt19937 random(static_cast<uint32_t>(count));
  std::normal_distribution<float> normal(0.0F, 1.0F);
  std::uniform_real_distribution<float> exponent(-40.0F, 8.0F);
  std::vector<float> x(static_cast<size_t>(count));
  for (float& value : x) value = normal(random) * std::exp2(exponent(random));
  const float edges[] = {0.0F, -0.0F, 0x1p-12F, -0x1p-12F, 200.0F, -200.0F, -201.0F, 3e38F, -3e38F, 1e-40F};
  std::copy_n(edges, std::min<size_t>(std::size(edges), x.size()), x.begin());
  return x;
}

TEST(RealFunctionRows, test_every_length_equals_the_scalar_truth) {
  for_each_vector_row(real_function_rows(), [](RealFunctionFn* function) {
    for (const RealFunction which : kAll) {
      for (const int64_t count : {0, 1, 3, 4, 7, 8, 9, 31, 1000}) {
        const std::vector<float> x = some_values(count);
        std::vector<float> expected(x.size());
        real_function_rows().front().function(which, -0.3, x.data(), count, expected.data());
        GuardedBuffer<float> y(count);
        function(which, -0.3, x.data(), count, y.data());
        expect_same(expected, y.values());
        EXPECT_TRUE(y.guards_intact());
      }
    }
  });
}

TEST(RealFunction, test_values_are_those_of_long_double_rounded_once) {
  const std::vector<float> x = some_values(20000);
  std::vector<float> sigmoid(x.size()), silu(x.size()), tanh(x.size());
  const auto count = static_cast<int64_t>(x.size());
  real_function_f32(RealFunction::kSigmoid, 0.0, x.data(), count, sigmoid.data());
  real_function_f32(RealFunction::kSilu, 0.0, x.data(), count, silu.data());
  real_function_f32(RealFunction::kTanh, 0.0, x.data(), count, tanh.data());
  for (size_t i = 0; i < x.size(); ++i) {
    const long double exact = 1.0L / (1.0L + std::exp(-static_cast<long double>(x[i])));
    ASSERT_EQ(sigmoid[i], static_cast<float>(exact)) << x[i];
    ASSERT_EQ(silu[i], static_cast<float>(x[i] * exact)) << x[i];
    ASSERT_EQ(tanh[i], static_cast<float>(std::tanh(static_cast<long double>(x[i])))) << x[i];
  }
}

TEST(RealFunction, test_gelu_is_that_of_long_double_within_one_unit) {
  const std::vector<float> x = some_values(20000);
  std::vector<float> gelu(x.size()), gelu_tanh(x.size());
  const auto count = static_cast<int64_t>(x.size());
  real_function_f32(RealFunction::kGelu, 0.0, x.data(), count, gelu.data());
  real_function_f32(RealFunction::kGeluTanh, 0.0, x.data(), count, gelu_tanh.data());
  const auto near = [](float actual, long double exact) {
    const auto rounded = static_cast<float>(exact);
    return actual >= std::nextafter(rounded, -infinity()) && actual <= std::nextafter(rounded, infinity());
  };
  for (size_t i = 0; i < x.size(); ++i) {
    const auto v = static_cast<long double>(x[i]);
    const long double inner = std::sqrt(2.0L / std::numbers::pi_v<long double>) * (v + 0.044715L * v * v * v);
    ASSERT_TRUE(near(gelu[i], v * std::erfc(-v / std::sqrt(2.0L)) / 2)) << x[i] << " " << gelu[i];
    ASSERT_TRUE(near(gelu_tanh[i], v / (1 + std::exp(-2 * inner)))) << x[i] << " " << gelu_tanh[i];
  }
}

TEST(RealFunction, test_infinities_have_their_limits_and_a_nan_stays_one) {
  const std::vector<float> x = {infinity(), -infinity(), std::numeric_limits<float>::quiet_NaN()};
  for (const Row<RealFunctionFn>& row : real_function_rows()) {
    if (!isa_supported(row.isa)) continue;
    std::vector<float> y(3);
    row.function(RealFunction::kSigmoid, 0.0, x.data(), 3, y.data());
    EXPECT_EQ(y[0], 1.0F);
    EXPECT_EQ(y[1], 0.0F);
    EXPECT_TRUE(std::isnan(y[2]));
    row.function(RealFunction::kTanh, 0.0, x.data(), 3, y.data());
    EXPECT_EQ(y[0], 1.0F);
    EXPECT_EQ(y[1], -1.0F);
    EXPECT_TRUE(std::isnan(y[2]));
  }
}

}  // namespace
}  // namespace ptqx::kernels
