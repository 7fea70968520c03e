#include "kernels/ceiling.h"

#include <numeric>

#include "kernel_rows.h"

namespace ptqx::kernels {
namespace {

class MultiplyAccumulateRows : public testing::TestWithParam<std::span<const Row<CeilingFn>> (*)()> {};

TEST_P(MultiplyAccumulateRows, test_the_count_is_in_proportion_to_the_rounds) {
  for (const Row<CeilingFn>& row : GetParam()()) {
    if (!isa_supported(row.isa)) continue;
    SCOPED_TRACE(row.name);
    EXPECT_EQ(row.function(0), 0);
    const int64_t once = row.function(1);
    EXPECT_GT(once, 0);
    EXPECT_EQ(row.function(1000), 1000 * once);
  }
}

INSTANTIATE_TEST_SUITE_P(Ceilings, MultiplyAccumulateRows,
                         testing::Values(&u8s8_ceiling_rows, &f32_ceiling_rows));

TEST(StreamReadRows, test_every_length_and_alignment_gives_the_sum) {
  std::mt19937_64 random(1);
  std::vector<uint64_t> words(1001);
  for (uint64_t& word : words) word = random();
  for (int64_t n : kLengths) {
    for (int64_t first : {0, 1}) {
      SCOPED_TRACE(std::to_string(n) + " words from " + std::to_string(first));
      const uint64_t* begin = words.data() + first;
      const uint64_t sum = std::accumulate(begin, begin + n, uint64_t{0});
      for (const Row<StreamReadFn>& row : stream_read_rows()) {
        if (!isa_supported(row.isa)) continue;
        EXPECT_EQ(row.function(begin, n), sum) << row.name;
      }
    }
  }
}

}  // namespace
}  // namespace ptqx::kernels
