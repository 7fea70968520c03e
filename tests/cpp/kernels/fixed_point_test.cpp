#include "kernels/fixed_point.h"

#include <random>

#include "kernel_rows.h"
#include "kernels/arith.h"

namespace ptqx::kernels {
namespace {

/// Numbers of all magnitudes: uniform ones would never be near 0.
class Numbers {
 public:
  template <class Number>
  std::vector<Number> some(int64_t count, int least_bits, int most_bits) {
    std::uniform_int_distribution<int> bits(least_bits, most_bits);
    std::vector<Number> result(static_cast<size_t>(count));
    for (Number& number : result) {
      number = static_cast<Number>(static_cast<int64_t>(random_()) >> (64 - bits(random_)));
    }
    return result;
  }

 private:
  std::mt19937_64 random_{1};
};

TEST(FixedPointRows, test_every_length_equals_the_scalar_row) {
  Numbers numbers;
  for (const int64_t n : kLengths) {
    if (n == 0) continue;
    const auto narrow = numbers.some<int32_t>(n, 1, 32);
    const auto wide = numbers.some<int64_t>(n, 1, 64);
    const auto offset = numbers.some<int64_t>(n, 1, 40), multiplier = numbers.some<int64_t>(n, 1, 32);
    std::vector<int64_t> shift = numbers.some<int64_t>(n, 8, 8);
    for (int64_t& places : shift) places = (places + 128) % (kMostPlaces + 1);
    const FixedPointTerm terms[] = {{narrow.data(), false, offset.data(), multiplier.data()},
                                    {wide.data(), true, multiplier.data(), offset.data()},
                                    {narrow.data(), false, multiplier.data(), offset.data()}};
    for (const size_t count : {1, 2, 3}) {
      const auto run = [&](FixedPointFn* function) {
        std::vector<int64_t> codes(static_cast<size_t>(n));
        function({.terms = std::span(terms).first(count),
                  .shift = shift.data(),
                  .count = n,
                  .zero_point = -3,
                  .low = -1000,
                  .high = 32767,
                  .codes = codes.data()});
        return codes;
      };
      SCOPED_TRACE(testing::Message() << n << " numbers, terms: " << count);
      const std::vector<int64_t> expected = run(fixed_point_rows().front().function);
      for_each_vector_row(fixed_point_rows(), [&](FixedPointFn* row) { EXPECT_EQ(run(row), expected); });
    }
  }
}

}  // namespace
}  // namespace ptqx::kernels
