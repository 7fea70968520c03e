#include "kernels/reduce.h"

#include <numeric>

#include "kernel_rows.h"

namespace ptqx::kernels {
namespace {

TEST(MinMaxRows, test_every_length_equals_the_scalar_truth) {
  for (int64_t n : kLengths) {
    for (bool nonfinite : {false, true}) {
      SCOPED_TRACE(std::to_string(n) + (nonfinite ? " elements with NaN and Inf" : " elements"));
      const std::vector<float> x = edge_values(n, 0.1F, nonfinite, static_cast<uint32_t>(n));
      const MinMax truth = min_max_rows().front().function(x.data(), n);
      for_each_vector_row(min_max_rows(), [&](MinMaxFn* function) {
        const MinMax result = function(x.data(), n);
        EXPECT_TRUE(same_number(truth.min, result.min)) << truth.min << " " << result.min;
        EXPECT_TRUE(same_number(truth.max, result.max)) << truth.max << " " << result.max;
        EXPECT_EQ(truth.nonfinite, result.nonfinite);
      });
    }
  }
}

TEST(MinMaxRows, test_the_extreme_is_found_in_every_place) {
  for (const Row<MinMaxFn>& row : min_max_rows()) {
    if (!isa_supported(row.isa)) continue;
    SCOPED_TRACE(row.name);
    for (size_t place = 0; place < 131; ++place) {
      std::vector<float> x(131, 1.0F);
      x[place] = 2.0F;
      x[(place + 1) % 131] = 0.5F;
      x[(place + 2) % 131] = nan_value();
      const MinMax result = row.function(x.data(), 131);
      ASSERT_EQ(result.max, 2.0F) << place;
      ASSERT_EQ(result.min, 0.5F) << place;
      ASSERT_EQ(result.nonfinite, 1) << place;
    }
  }
}

TEST(MinMaxRows, test_empty_all_nonfinite_and_negative_zero) {
  const std::vector<float> none(35, nan_value());
  const std::vector<float> zeros(35, -0.0F);
  for (const Row<MinMaxFn>& row : min_max_rows()) {
    if (!isa_supported(row.isa)) continue;
    SCOPED_TRACE(row.name);
    for (int64_t n : {0, 35}) {
      const MinMax result = row.function(none.data(), n);
      EXPECT_EQ(result.min, infinity());
      EXPECT_EQ(result.max, -infinity());
      EXPECT_EQ(result.nonfinite, n);
    }
    const MinMax result = row.function(zeros.data(), 35);
    EXPECT_TRUE(same_number(result.min, 0.0F) && same_number(result.max, 0.0F));
  }
}

TEST(MomentsRows, test_every_length_equals_the_scalar_truth) {
  for (int64_t n : kLengths) {
    for (bool nonfinite : {false, true}) {
      SCOPED_TRACE(std::to_string(n) + (nonfinite ? " elements with NaN and Inf" : " elements"));
      const std::vector<float> x = edge_values(n, 0.1F, nonfinite, static_cast<uint32_t>(n));
      const Moments truth = moments_rows().front().function(x.data(), n);
      for_each_vector_row(moments_rows(), [&](MomentsFn* function) {
        const Moments result = function(x.data(), n);
        EXPECT_TRUE(same_number(truth.sum, result.sum)) << truth.sum << " " << result.sum;
        EXPECT_TRUE(same_number(truth.sum_of_squares, result.sum_of_squares));
        EXPECT_EQ(truth.nonfinite, result.nonfinite);
      });
    }
  }
}

TEST(MomentsRows, test_sums_of_whole_numbers_are_exact) {
  std::vector<float> x(100);
  std::iota(x.begin(), x.end(), 1.0F);
  x.push_back(nan_value());
  for (const Row<MomentsFn>& row : moments_rows()) {
    if (!isa_supported(row.isa)) continue;
    SCOPED_TRACE(row.name);
    const Moments result = row.function(x.data(), 101);
    EXPECT_EQ(result.sum, 5050.0);
    EXPECT_EQ(result.sum_of_squares, 338350.0);
    EXPECT_EQ(result.nonfinite, 1);
  }
}

TEST(HistogramRows, test_every_length_equals_the_scalar_truth) {
  for (int64_t n : kLengths) {
    for (int64_t bins : {1, 7, 2048}) {
      for (float high : {-2.0F, 3.1F, 3e38F}) {
        SCOPED_TRACE(std::to_string(n) + " elements, " + std::to_string(bins) + " bins up to " +
                     std::to_string(high));
        const std::vector<float> x = edge_values(n, 0.1F, true);
        std::vector<int64_t> truth(static_cast<size_t>(bins), 5);
        const int64_t outside =
            histogram_rows().front().function(x.data(), n, -2.0F, high, truth.data(), bins);
        for_each_vector_row(histogram_rows(), [&](HistogramFn* function) {
          GuardedBuffer<int64_t> counts(bins);
          std::fill_n(counts.data(), bins, 5);
          EXPECT_EQ(function(x.data(), n, -2.0F, high, counts.data(), bins), outside);
          expect_same(truth, counts.values());
          EXPECT_TRUE(counts.guards_intact());
        });
      }
    }
  }
}

TEST(HistogramRows, test_edges_of_the_range) {
  const std::vector<float> x = {-1.0F, -0.0F, 0.0F, 0.999F, 1.0F,       3.999F,     4.0F,
                                4.1F,  -9.0F, 2.5F, 1e30F,  infinity(), nan_value()};
  for (const Row<HistogramFn>& row : histogram_rows()) {
    if (!isa_supported(row.isa)) continue;
    SCOPED_TRACE(row.name);
    std::vector<int64_t> counts(4, 0);
    EXPECT_EQ(row.function(x.data(), static_cast<int64_t>(x.size()), 0.0F, 4.0F, counts.data(), 4), 4);
    EXPECT_EQ(counts, (std::vector<int64_t>{3, 1, 1, 2}));
    counts.assign(4, 0);
    EXPECT_EQ(row.function(x.data(), 3, 0.0F, 0.0F, counts.data(), 4), 1);
    EXPECT_EQ(counts, (std::vector<int64_t>{0, 0, 0, 2}));
  }
}

}  // namespace
}  // namespace ptqx::kernels
