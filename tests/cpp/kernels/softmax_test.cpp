#include "kernels/softmax.h"

#include <algorithm>
#include <numbers>

#include "kernel_rows.h"

namespace ptqx::kernels {
namespace {

TEST(Softmax, test_values_are_those_of_long_double_rounded_once) {
  for (const int64_t classes : {1, 2, 10, 16, 17, 100, 1000}) {
    for (const float spread : {0.01F, 1.0F, 20.0F, 300.0F}) {
      std::mt19937 random(static_cast<uint32_t>(classes));
      std::normal_distribution<float> normal(0.0F, spread);
      std::vector<float> x(static_cast<size_t>(3 * classes));
      for (float& value : x) value = normal(random);
      std::vector<float> shares(x.size()), logs(x.size());
      softmax_f32(x.data(), 3, classes, false, shares.data());
      softmax_f32(x.data(), 3, classes, true, logs.data());
      for (size_t row = 0; row < 3; ++row) {
        const auto begin = x.begin() + static_cast<int64_t>(row) * classes;
        const long double largest = *std::max_element(begin, begin + classes);
        long double sum = 0.0L;
        for (auto i = begin; i != begin + classes; ++i) sum += std::exp(*i - largest);
        for (size_t i = row * static_cast<size_t>(classes); i < (row + 1) * static_cast<size_t>(classes);
             ++i) {
          ASSERT_EQ(shares[i], static_cast<float>(std::exp(x[i] - largest) / sum)) << x[i] - largest;
          // The sum is a float64 near 1 where one class has it all: what rounds it is of that size.
          const long double log = x[i] - largest - std::log(sum);
          ASSERT_NEAR(logs[i], static_cast<double>(log),
                      std::abs(static_cast<double>(log)) * 0x1p-24 + 0x1p-50);
        }
      }
    }
  }
}

TEST(Softmax, test_extremes) {
  const std::vector<float> x = {3e38F, -3e38F, 3e38F, 0.0F};
  std::vector<float> y(4);
  softmax_f32(x.data(), 1, 4, false, y.data());
  expect_same({0.5F, 0.0F, 0.5F, 0.0F}, y);
  softmax_f32(x.data(), 1, 4, true, y.data());
  EXPECT_EQ(y[0], static_cast<float>(-std::numbers::ln2));
  EXPECT_EQ(y[3], -3e38F);
  EXPECT_EQ(y[1], -infinity());  // -6e38 is no float32
}

}  // namespace
}  // namespace ptqx::kernels
