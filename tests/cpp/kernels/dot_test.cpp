#include "kernels/dot.h"

#include <limits>
#include <random>

#include "kernel_rows.h"

namespace ptqx::kernels {
namespace {

TEST(DotRows, test_every_length_equals_the_sum_written_out) {
  std::mt19937 random(1);
  std::uniform_int_distribution<int> code(-32768, 32767);
  for (const int64_t n : kLengths) {
    std::vector<int16_t> x(static_cast<size_t>(n)), w(x.size());
    int64_t expected = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] = static_cast<int16_t>(code(random));
      w[i] = static_cast<int16_t>(code(random));
      expected += int64_t{x[i]} * w[i];
    }
    for (const Row<DotS16Fn>& row : dot_s16_rows()) {
      if (!isa_supported(row.isa)) continue;
      EXPECT_EQ(row.function(x.data(), w.data(), n), expected) << row.name << " of " << n;
    }
  }
}

TEST(DotRows, test_largest_products_stay_exact) {
  const std::vector<int16_t> x(1003, std::numeric_limits<int16_t>::min());
  for (const Row<DotS16Fn>& row : dot_s16_rows()) {
    if (!isa_supported(row.isa)) continue;
    EXPECT_EQ(row.function(x.data(), x.data(), 1003), int64_t{1003} << 30) << row.name;
  }
}

}  // namespace
}  // namespace ptqx::kernels
