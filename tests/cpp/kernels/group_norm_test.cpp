#include "kernels/group_norm.h"

#include "kernel_rows.h"

namespace ptqx::kernels {
namespace {

TEST(ChannelSumsRows, test_every_number_of_channels_equals_the_scalar_truth) {
  constexpr int64_t kH = 3, kW = 5;
  for (const int64_t channels : {1, 2, 3, 4, 7, 8, 9, 15, 16, 31, 32, 33, 64, 70}) {
    const std::vector<float> x =
        edge_values(kH * kW * channels, 0.1F, false, static_cast<uint32_t>(channels));
    for (const int64_t count : {channels, (channels + 1) / 2}) {
      SCOPED_TRACE(std::to_string(count) + " of " + std::to_string(channels) + " channels");
      const auto size = static_cast<size_t>(count);
      std::vector<double> sums(size), squares(size);
      channel_sums_rows().front().function(x.data(), kH, kW, channels, count, sums.data(), squares.data());
      for_each_vector_row(channel_sums_rows(), [&](ChannelSumsFn* function) {
        GuardedBuffer<double> a(count), b(count);
        function(x.data(), kH, kW, channels, count, a.data(), b.data());
        EXPECT_EQ(a.values(), sums);
        EXPECT_EQ(b.values(), squares);
        EXPECT_TRUE(a.guards_intact() && b.guards_intact());
      });
    }
  }
}

TEST(NormalizeChannelsU8Rows, test_every_number_of_channels_equals_the_scalar_truth) {
  constexpr int64_t kPixels = 3;
  for (const int64_t channels : {1, 2, 7, 8, 9, 15, 16, 17, 31, 64, 70}) {
    SCOPED_TRACE(std::to_string(channels) + " channels");
    const auto seed = static_cast<uint32_t>(channels);
    const std::vector<float> x = edge_values(kPixels * channels, 0.1F, true, seed);
    const std::vector<float> mean = edge_values(channels, 0.03F, false, seed + 1);
    const std::vector<float> inverse = edge_values(channels, 0.02F, false, seed + 2);
    const std::vector<float> weight = edge_values(channels, 0.01F, false, seed + 3);
    const std::vector<float> bias = edge_values(channels, 0.05F, false, seed + 4);
    const NormalizeChannelsArgs args = {
        channels, mean.data(), inverse.data(), weight.data(), bias.data(), 0.1F, 17, 2, 250};
    std::vector<uint8_t> truth(x.size());
    normalize_channels_u8_rows().front().function(x.data(), kPixels, args, truth.data());
    for_each_vector_row(normalize_channels_u8_rows(), [&](NormalizeChannelsU8Fn* function) {
      GuardedBuffer<uint8_t> y(kPixels * channels);
      function(x.data(), kPixels, args, y.data());
      expect_same(truth, y.values());
      EXPECT_TRUE(y.guards_intact());
    });
  }
}

TEST(GroupStatistics, test_groups_have_their_own_and_values_that_are_not_finite_are_noticed) {
  // 1, 3 and 10, 30: means 2 and 20, deviations 1 and 10.
  const std::vector<double> sums = {1, 3, 10, 30}, squares = {1, 9, 100, 900};
  std::vector<float> mean(4), inverse(4);
  EXPECT_TRUE(group_statistics({1, 4, 2, 1e-12}, sums.data(), squares.data(), mean.data(), inverse.data()));
  expect_same({2.0F, 2.0F, 20.0F, 20.0F}, mean);
  expect_same({1.0F, 1.0F, 0.1F, 0.1F}, inverse);
  const std::vector<double> infinite = {1, 9, 100, std::numeric_limits<double>::infinity()};
  EXPECT_FALSE(group_statistics({1, 4, 2, 1e-12}, sums.data(), infinite.data(), mean.data(), inverse.data()));
}

}  // namespace
}  // namespace ptqx::kernels
