#include "engine/row_product.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "engine/conv2d_case.h"
#include "kernels/arith.h"
#include "kernels/kernel_rows.h"

namespace ptqx::engine {
namespace {

using kernels::GuardedBuffer;

/// `a` ends exactly where kSlack says, so that the address sanitizer sees any read beyond it.
struct Operands {
  Operands(RowProductShape s, int64_t row_count, std::vector<uint8_t> a_codes, std::vector<uint8_t> b_codes)
      : shape(s), rows(row_count), a(std::move(a_codes)), b(std::move(b_codes)) {
    a.resize(a.size() + static_cast<size_t>(RowProduct::kSlack), 0xA5);
  }

  static Operands random(RowProductShape shape, int64_t rows) {
    return {shape, rows, kernels::random_codes<uint8_t>(rows * shape.depth, 0, 255, 1),
            kernels::random_codes<uint8_t>(shape.columns * shape.depth, 0, 255, 2)};
  }

  std::vector<int64_t> sums(int32_t a_zero_point, int32_t b_zero_point) const {
    std::vector<int64_t> y;
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < shape.columns; ++j) {
        const uint8_t* row = a.data() + i * shape.depth;
        const uint8_t* column = b.data() + j * shape.depth;
        int64_t sum = 0;
        for (int64_t k = 0; k < shape.depth; ++k) sum += (row[k] - a_zero_point) * (column[k] - b_zero_point);
        y.push_back(sum);
      }
    }
    return y;
  }

  /// Panels in reverse order, and rows in two calls, the first of which has `first_rows`.
  template <class T>
  std::vector<T> run(const RowProduct& product, int64_t first_rows = 0) const {
    GuardedBuffer<uint8_t> packed(static_cast<int64_t>(product.packed_bytes()), 0);
    for (int64_t panel = product.panels(); panel-- > 0;) product.pack(b.data(), panel, packed.data());
    EXPECT_TRUE(packed.guards_intact());
    GuardedBuffer<T> y(rows * shape.columns);
    product.run(a.data(), first_rows, packed.data(), y.data());
    product.run(a.data() + first_rows * shape.depth, rows - first_rows, packed.data(),
                y.data() + first_rows * shape.columns);
    EXPECT_TRUE(y.guards_intact());
    return y.values();
  }

  RowProductShape shape;
  int64_t rows;
  std::vector<uint8_t> a, b;
};

/// As real values and as codes, from `sums` that were computed once.
void expect_exact(const Operands& operands, int32_t a_zero_point, int32_t b_zero_point,
                  const std::vector<int64_t>& sums) {
  // A power of two keeps all bits of the sums that float32 has.
  const RowProductCodes real = {a_zero_point, b_zero_point, 0.5F, true};
  std::vector<float> values;
  for (const int64_t sum : sums) values.push_back(static_cast<float>(sum) * real.multiplier);
  // The largest is cut off by the codes' range, the others are spread over it.
  int64_t largest = 1;
  for (const int64_t sum : sums) largest = std::max(largest, std::abs(sum));
  const RowProductCodes quantized = {
      a_zero_point, b_zero_point, 160.0F / static_cast<float>(largest), false, 120, 3, 250};
  std::vector<uint8_t> codes;
  for (const int64_t sum : sums) {
    const float t = static_cast<float>(sum) * quantized.multiplier;
    codes.push_back(static_cast<uint8_t>(
        kernels::round_and_clamp(t, quantized.zero_point, quantized.qmin, quantized.qmax)));
  }
  const IsaGuard guard;
  for (const kernels::Isa isa : supported_isas()) {
    kernels::set_isa_ceiling(isa);
    const RowProduct to_real(operands.shape, real), to_codes(operands.shape, quantized);
    SCOPED_TRACE(std::string(to_real.kernel_name()) + ", rows " + std::to_string(operands.rows) + ", depth " +
                 std::to_string(operands.shape.depth) + ", columns " +
                 std::to_string(operands.shape.columns) + ", zero points " + std::to_string(a_zero_point) +
                 " and " + std::to_string(b_zero_point));
    kernels::expect_same(values, operands.run<float>(to_real));
    kernels::expect_same(codes, operands.run<uint8_t>(to_codes));
    if (testing::Test::HasFailure()) return;
  }
}

constexpr int32_t kZeroPoints[] = {0, 1, 128, 255};

class RowProductTest : public testing::TestWithParam<int64_t> {};

TEST_P(RowProductTest, EveryShapeEqualsTheDefinition) {
  for (const int64_t columns : {1, 15, 16, 17, 64, 65, 130}) {
    for (const int64_t rows : {1, 5, 96, 97, 200}) {
      const Operands operands = Operands::random({.depth = GetParam(), .columns = columns}, rows);
      for (const int32_t a_zero_point : kZeroPoints) {
        for (const int32_t b_zero_point : kZeroPoints) {
          expect_exact(operands, a_zero_point, b_zero_point, operands.sums(a_zero_point, b_zero_point));
          if (HasFailure()) return;
        }
      }
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Depths, RowProductTest, testing::Values(1, 3, 4, 5, 31, 64, 130),
                         testing::PrintToStringParamName());

/// Rows and columns of 0 only and of 255 only, beside random ones.
TEST(RowProduct, LargestSumsFitInt32) {
  constexpr RowProductShape kShape = {.depth = kMostProductDepth, .columns = 17};
  constexpr int64_t kRows = 5;
  static_assert(kShape.depth * 255 * 255 <= INT32_MAX && (kShape.depth + 1) * 255 * 255 > INT32_MAX);
  Operands operands = Operands::random(kShape, kRows);
  for (const int64_t i : {0, 1}) {
    std::fill_n(operands.a.begin() + i * kShape.depth, kShape.depth, static_cast<uint8_t>(255 * i));
    for (const int64_t j : {i, i + 14}) {
      std::fill_n(operands.b.begin() + j * kShape.depth, kShape.depth, static_cast<uint8_t>(255 * i));
    }
  }
  for (const int32_t a_zero_point : {0, 255}) {
    for (const int32_t b_zero_point : {0, 255}) {
      const std::vector<int64_t> sums = operands.sums(a_zero_point, b_zero_point);
      const auto [least, most] = std::ranges::minmax(sums);
      ASSERT_EQ(std::max(-least, most), kShape.depth * 255 * 255);
      expect_exact(operands, a_zero_point, b_zero_point, sums);
      if (HasFailure()) return;
    }
  }
}

TEST(RowProduct, RowsInSeveralCallsGiveTheSame) {
  const Operands operands = Operands::random({.depth = 37, .columns = 70}, 200);
  const RowProductCodes codes = {9, 200, 1e-4F, false, 100};
  const IsaGuard guard;
  for (const kernels::Isa isa : supported_isas()) {
    kernels::set_isa_ceiling(isa);
    const RowProduct product(operands.shape, codes);
    SCOPED_TRACE(product.kernel_name());
    const std::vector<uint8_t> together = operands.run<uint8_t>(product);
    for (const int64_t first_rows : {1, 96, 97, 200}) {
      kernels::expect_same(together, operands.run<uint8_t>(product, first_rows));
    }
  }
}

/// t beyond int32, and a multiplier of 0, which tiny scales round to.
TEST(RowProduct, MultipliersOfAnySizeSaturate) {
  const Operands operands = Operands::random({.depth = 5, .columns = 18}, 7);
  const std::vector<int64_t> sums = operands.sums(128, 128);
  const IsaGuard guard;
  for (const kernels::Isa isa : supported_isas()) {
    kernels::set_isa_ceiling(isa);
    for (const float multiplier : {0.0F, 1e-38F, 1e6F, 3e38F}) {
      const RowProduct product(operands.shape, {128, 128, multiplier, false, 7, 2, 251});
      SCOPED_TRACE(std::string(product.kernel_name()) + ", multiplier " + std::to_string(multiplier));
      std::vector<uint8_t> codes;
      for (const int64_t sum : sums) {
        const float t = static_cast<float>(sum) * multiplier;
        codes.push_back(static_cast<uint8_t>(kernels::round_and_clamp(t, 7, 2, 251)));
      }
      kernels::expect_same(codes, operands.run<uint8_t>(product));
    }
  }
}

}  // namespace
}  // namespace ptqx::engine
