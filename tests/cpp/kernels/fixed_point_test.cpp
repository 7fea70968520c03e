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

template <class Code>
void expect_codes_equal_the_scalar_row(std::span<const FixedPointTerm> terms,
                                       const std::vector<int64_t>& shift, Integer type) {
  const auto n = std::ssize(shift);
  const auto run = [&](FixedPointFn* function) {
    GuardedBuffer<Code> codes(n);
    function({.terms = terms,
              .shift = shift.data(),
              .count = n,
              .zero_point = 3,
              .low = std::numeric_limits<Code>::min() + 1,
              .high = std::numeric_limits<Code>::max(),
              .codes = codes.data(),
              .type = type});
    EXPECT_TRUE(codes.guards_intact());
    return codes.values();
  };
  const auto expected = run(fixed_point_rows().front().function);
  for_each_vector_row(fixed_point_rows(), [&](FixedPointFn* row) { EXPECT_EQ(run(row), expected); });
}

TEST(FixedPointRows, test_every_length_equals_the_scalar_row) {
  Numbers numbers;
  for (const int64_t n : kLengths) {
    if (n == 0) continue;
    const auto u8 = numbers.some<uint8_t>(n, 8, 8);
    const auto s8 = numbers.some<int8_t>(n, 1, 8);
    const auto s16 = numbers.some<int16_t>(n, 1, 16);
    const auto s32 = numbers.some<int32_t>(n, 1, 32);
    const auto s64 = numbers.some<int64_t>(n, 1, 64);
    const auto offset = numbers.some<int64_t>(n, 1, 40), multiplier = numbers.some<int64_t>(n, 1, 32);
    std::vector<int64_t> shift = numbers.some<int64_t>(n, 8, 8);
    for (int64_t& places : shift) places = (places + 128) % (kMostPlaces + 1);
    const FixedPointTerm terms[] = {{s64.data(), Integer::kS64, multiplier.data(), offset.data()},
                                    {s32.data(), Integer::kS32, offset.data(), multiplier.data()},
                                    {u8.data(), Integer::kU8, offset.data(), multiplier.data()},
                                    {s8.data(), Integer::kS8, multiplier.data(), multiplier.data()},
                                    {s16.data(), Integer::kS16, offset.data(), offset.data()}};
    for (size_t first = 0; first < std::size(terms); ++first) {
      for (size_t count = 1; first + count <= std::size(terms); ++count) {
        SCOPED_TRACE(testing::Message() << n << " numbers, terms " << first << " to " << first + count);
        const std::span<const FixedPointTerm> some = std::span(terms).subspan(first, count);
        expect_codes_equal_the_scalar_row<uint8_t>(some, shift, Integer::kU8);
        expect_codes_equal_the_scalar_row<int8_t>(some, shift, Integer::kS8);
        expect_codes_equal_the_scalar_row<int16_t>(some, shift, Integer::kS16);
      }
    }
  }
}

TEST(FixedPointRows, test_hand_computed_codes) {
  const std::vector<uint8_t> a = {10, 11, 12, 13, 255};
  const std::vector<int16_t> b = {0, -1, 300, -301, 0};
  const std::vector<int64_t> a_offset(5, -10), b_offset(5, 0), a_multiplier(5, 3), b_multiplier(5, 1),
      shift(5, 1);
  const FixedPointTerm terms[] = {{a.data(), Integer::kU8, a_offset.data(), a_multiplier.data()},
                                  {b.data(), Integer::kS16, b_offset.data(), b_multiplier.data()}};
  for (const Row<FixedPointFn>& row : fixed_point_rows()) {
    if (!isa_supported(row.isa)) continue;
    std::vector<int16_t> codes(5);
    row.function({.terms = terms,
                  .shift = shift.data(),
                  .count = 5,
                  .zero_point = 5,
                  .low = -128,
                  .high = 200,
                  .codes = codes.data(),
                  .type = Integer::kS16});
    // 0, 2 / 2, 306 / 2, -292 / 2 and 735 / 2 = 367.5, and 5.
    EXPECT_EQ(codes, (std::vector<int16_t>{5, 6, 158, -128, 200})) << row.name;
  }
}

}  // namespace
}  // namespace ptqx::kernels
