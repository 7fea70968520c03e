#include "kernels/softmax.h"

#include <algorithm>
#include <numbers>
#include <string>

#include "kernel_rows.h"
#include "kernels/arith.h"

namespace ptqx::kernels {
namespace {

constexpr float kSpreads[] = {0.01F, 1.0F, 20.0F, 300.0F};

/// Below, at and above whole groups of 16 lanes, and what softmax_row_rows() keep of the exponentials.
std::vector<int64_t> row_sizes() {
  std::vector<int64_t> sizes = {1023, 1024, 1025, 3000};
  for (int64_t n = 1; n <= 40; ++n) sizes.push_back(n);
  return sizes;
}

std::vector<float> normal_values(int64_t n, float spread, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, spread);
  std::vector<float> x(static_cast<size_t>(n));
  for (float& value : x) value = normal(random);
  return x;
}

double largest_of(const std::vector<float>& x) { return *std::ranges::max_element(x); }

/// check(x) of every size and spread, of equal numbers and of ones that are far apart.
template <class Check>
void for_each_row_of_numbers(Check check) {
  for (const int64_t n : row_sizes()) {
    SCOPED_TRACE(std::to_string(n) + " numbers");
    for (const float spread : kSpreads) check(normal_values(n, spread, static_cast<uint32_t>(n)));
    check(std::vector<float>(static_cast<size_t>(n), -3.5F));
    check(edge_values(n, 0.1F, false, static_cast<uint32_t>(n)));
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(ExpSumRows, test_every_size_equals_the_scalar_truth) {
  for_each_vector_row(exp_sum_rows(), [](ExpSumFn* function) {
    for_each_row_of_numbers([&](const std::vector<float>& x) {
      const auto n = static_cast<int64_t>(x.size());
      const double largest = largest_of(x);
      const double truth = exp_sum_rows().front().function(x.data(), n, largest);
      ASSERT_TRUE(same_number(truth, function(x.data(), n, largest)));
    });
  });
}

TEST(SoftmaxRowRows, test_every_size_equals_the_scalar_truth) {
  for_each_vector_row(softmax_row_rows(), [](SoftmaxRowFn* function) {
    for_each_row_of_numbers([&](const std::vector<float>& x) {
      const auto n = static_cast<int64_t>(x.size());
      std::vector<float> truth(x.size());
      softmax_row_rows().front().function(x.data(), n, largest_of(x), truth.data());
      GuardedBuffer<float> y(n);
      function(x.data(), n, largest_of(x), y.data());
      expect_same(truth, y.values());
      EXPECT_TRUE(y.guards_intact());
    });
  });
}

TEST(Softmax, test_values_are_those_of_long_double_rounded_once) {
  for (const int64_t classes : {1, 2, 10, 16, 17, 100, 1000}) {
    for (const float spread : kSpreads) {
      const std::vector<float> x = normal_values(3 * classes, spread, static_cast<uint32_t>(classes));
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

TEST(Softmax, test_codes_are_the_quantized_shares_on_every_instruction_set) {
  constexpr int64_t kRows = 3;
  for (const int64_t classes : row_sizes()) {
    for (const float spread : kSpreads) {
      const std::vector<float> x = normal_values(kRows * classes, spread, static_cast<uint32_t>(classes));
      std::vector<float> scalar;
      for (const Isa isa : kIsas) {
        if (!isa_supported(isa)) continue;
        SCOPED_TRACE(std::string(isa_name(isa)) + ", " + std::to_string(classes) + " classes");
        const Ceiling ceiling(isa);
        std::vector<float> shares(x.size());
        EXPECT_EQ(softmax_f32(x.data(), kRows, classes, false, shares.data()), 0);
        if (isa == Isa::kScalar) scalar = shares;
        expect_same(scalar, shares);
        // Of all shares, and of small ones alone: larger ones are cut off above, and the smallest below.
        for (const QParams output :
             {QParams{1.0F / 256, 0}, QParams{0.1F / static_cast<float>(classes), 5}}) {
          std::vector<uint8_t> expected;
          for (const float share : shares) {
            expected.push_back(
                static_cast<uint8_t>(quantize(share, output.scale, output.zero_point, 6, 250)));
          }
          GuardedBuffer<uint8_t> codes(kRows * classes);
          EXPECT_EQ(softmax_u8(x.data(), kRows, classes, output, 6, 250, codes.data()), 0);
          expect_same(expected, codes.values());
          EXPECT_TRUE(codes.guards_intact());
        }
      }
    }
  }
}

TEST(Softmax, test_logarithms_are_the_same_on_every_instruction_set) {
  for (const int64_t classes : row_sizes()) {
    const std::vector<float> x = normal_values(2 * classes, 20.0F, static_cast<uint32_t>(classes));
    std::vector<float> scalar;
    for (const Isa isa : kIsas) {
      if (!isa_supported(isa)) continue;
      SCOPED_TRACE(std::string(isa_name(isa)) + ", " + std::to_string(classes) + " classes");
      const Ceiling ceiling(isa);
      std::vector<float> logs(x.size());
      softmax_f32(x.data(), 2, classes, true, logs.data());
      if (isa == Isa::kScalar) scalar = logs;
      expect_same(scalar, logs);
    }
  }
}

TEST(Softmax, test_nonfinite_numbers_are_counted_and_rows_without_them_computed) {
  constexpr int64_t kClasses = 20;
  std::vector<float> x = normal_values(3 * kClasses, 1.0F, 1);
  std::vector<float> finite(kClasses);
  softmax_f32(x.data() + kClasses, 1, kClasses, false, finite.data());
  x[0] = infinity();
  x[19] = nan_value();
  x[47] = -infinity();
  for (const bool log : {false, true}) {
    std::vector<float> y(x.size());
    EXPECT_EQ(softmax_f32(x.data(), 3, kClasses, log, y.data()), 3);
    if (!log) expect_same(finite, {y.begin() + kClasses, y.begin() + 2 * kClasses});
  }
  std::vector<uint8_t> codes(x.size());
  EXPECT_EQ(softmax_u8(x.data(), 3, kClasses, {0.01F, 0}, 0, 255, codes.data()), 3);
  for (size_t i = 0; i < kClasses; ++i) EXPECT_EQ(codes[kClasses + i], quantize(finite[i], 0.01F, 0, 0, 255));
}

}  // namespace
}  // namespace ptqx::kernels
