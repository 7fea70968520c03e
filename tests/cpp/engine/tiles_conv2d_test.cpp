// The drivers of matrix units: conv2d_test.cpp runs every strategy on all its cases; here are those that they
// cut in ways of their own.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "conv2d_case.h"

namespace ptqx::engine {
namespace {

bool has_matrix_unit() { return kernels::isa_supported(kernels::Isa::kAmxInt8); }

std::vector<std::string> tile_strategies(const Conv2dOperands& operands, int threads) {
  std::vector<std::string> names = conv2d_strategies(operands.pack(), operands.call(), threads);
  std::erase_if(names, [](const std::string& name) { return !name.starts_with("tiles"); });
  return names;
}

/// Every strategy gives the reference's output, on one thread and several.
void expect_exact(const Conv2dCase& conv_case, std::vector<std::string> expected) {
  SCOPED_TRACE(conv_case.name);
  const Conv2dOperands operands(conv_case);
  const PackedConv2d packed = operands.pack();
  const std::vector<uint8_t> reference = operands.reference();
  for (const int threads : {1, 3}) {
    std::vector<std::string> names = tile_strategies(operands, threads);
    for (const std::string& name : names) {
      EXPECT_EQ(operands.run(packed, ThreadExecutor(threads), name), reference) << name;
      if (!operands.can_overwrite()) continue;
      EXPECT_EQ(operands.run(packed, ThreadExecutor(threads), name, true), reference)
          << name << ", in the residual's place";
    }
    std::sort(names.begin(), names.end());
    std::sort(expected.begin(), expected.end());
    EXPECT_EQ(names, expected);
  }
}

const std::vector<std::string> kGathered = {"tiles", "tiles with padding"};
const std::vector<std::string> kGatheredAndLines = {"tiles", "tiles with padding", "tiles of lines"};
const std::vector<std::string> kPairs = {"tiles of pairs"};
const std::vector<std::string> kAll = {"tiles", "tiles with padding", "tiles of lines", "tiles of samples"};

Conv2dShape three_by_three(int64_t in_channels, int64_t out_channels, int64_t stride = 1) {
  return {.in_channels = in_channels,
          .out_channels = out_channels,
          .kernel_h = 3,
          .kernel_w = 3,
          .stride_h = stride,
          .stride_w = stride,
          .pad_top = 1,
          .pad_left = 1,
          .pad_bottom = 1,
          .pad_right = 1};
}

TEST(TilesConv2dTest, LinesAndSamplesOfEveryLength) {
  if (!has_matrix_unit()) GTEST_SKIP() << "this CPU has no AMX";
  for (const int64_t w : {1, 2, 15, 16, 17, 33}) {
    for (const int64_t n : {1, 5, 16, 19}) {
      expect_exact({.name = std::to_string(n) + " of " + std::to_string(w),
                    .shape = three_by_three(64, 40),
                    .n = n,
                    .h = 3,
                    .w = w,
                    .input_zero_point = 77},
                   kAll);
    }
  }
}

TEST(TilesConv2dTest, RowsOfTapsThatDoNotFillSteps) {
  if (!has_matrix_unit()) GTEST_SKIP() << "this CPU has no AMX";
  for (const int64_t stride : {1, 2}) {
    for (const int64_t channels : {3, 16, 31, 32, 48, 61}) {
      expect_exact({.name = std::to_string(channels) + " channels, stride " + std::to_string(stride),
                    .shape = three_by_three(channels, 33, stride),
                    .n = 2,
                    .h = 9,
                    .w = 18,
                    .input_zero_point = 5,
                    .residual = true},
                   kGatheredAndLines);
    }
    // A row of 24 bytes would have to grow to 64.
    expect_exact({.name = "8 channels",
                  .shape = three_by_three(8, 20, stride),
                  .n = 2,
                  .h = 5,
                  .w = 7,
                  .input_zero_point = 5},
                 kGathered);
  }
}

TEST(TilesConv2dTest, PairsOfPixelsWhereChannelsAreFew) {
  if (!has_matrix_unit()) GTEST_SKIP() << "this CPU has no AMX";
  for (const int64_t out_channels : {1, 10, 16}) {
    for (const int64_t channels : {3, 16, 40}) {
      for (const int64_t w : {2, 30, 32, 34}) {
        expect_exact({.name = std::to_string(channels) + " to " + std::to_string(out_channels) +
                              " channels, " + std::to_string(w) + " pixels",
                      .shape = three_by_three(channels, out_channels),
                      .n = 3,
                      .h = 4,
                      .w = w,
                      .input_zero_point = 9,
                      .sample_scale = true,
                      .output = kernels::Output::kU8,
                      .activation = kernels::Activation::kPrelu,
                      .bias_f32 = true,
                      .residual = true},
                     kPairs);
        expect_exact({.name = "without floats",
                      .shape = three_by_three(channels, out_channels),
                      .n = 3,
                      .h = 4,
                      .w = w,
                      .output = kernels::Output::kU8FixedPoint},
                     kPairs);
      }
    }
  }
  Conv2dShape uneven = three_by_three(16, 12);
  uneven.kernel_w = 2;
  uneven.pad_left = 0;
  uneven.pad_right = 2;
  expect_exact({.name = "uneven", .shape = uneven, .n = 2, .h = 5, .w = 33, .input_zero_point = 7}, kPairs);
  uneven.kernel_w = 4;  // whose five taps of both pixels would not fill two steps
  expect_exact({.name = "four taps", .shape = uneven, .n = 2, .h = 5, .w = 33}, kGatheredAndLines);
  expect_exact({.name = "odd lines", .shape = three_by_three(16, 16), .n = 2, .h = 5, .w = 33}, {});
}

TEST(TilesConv2dTest, PointsNeedNoPadding) {
  if (!has_matrix_unit()) GTEST_SKIP() << "this CPU has no AMX";
  for (const int64_t n : {1, 7, 33}) {
    expect_exact(
        {.name = "48 channels", .shape = linear_shape(48, 70), .n = n, .h = 3, .w = 5, .input_zero_point = 9},
        kGatheredAndLines);
    expect_exact({.name = "128 channels",
                  .shape = linear_shape(128, 16),
                  .n = n,
                  .h = 3,
                  .w = 5,
                  .sample_scale = true},
                 kAll);
  }
}

TEST(TilesConv2dTest, DilatedTapsAndCodesOf4Bits) {
  if (!has_matrix_unit()) GTEST_SKIP() << "this CPU has no AMX";
  Conv2dShape dilated = three_by_three(64, 24);
  dilated.dilation_h = dilated.dilation_w = 2;
  expect_exact({.name = "dilated", .shape = dilated, .n = 17, .h = 6, .w = 7, .input_zero_point = 3},
               {"tiles", "tiles with padding", "tiles of samples"});
  expect_exact(
      {.name = "4 bits", .shape = three_by_three(64, 200), .n = 18, .h = 5, .w = 4, .weight_bits = 4}, kAll);
  expect_exact({.name = "4 bits, 40 channels",
                .shape = three_by_three(40, 80),
                .n = 3,
                .h = 5,
                .w = 4,
                .weight_bits = 4},
               kGatheredAndLines);
}

TEST(TilesConv2dTest, LayersOfOtherKindsHaveNone) {
  if (!has_matrix_unit()) GTEST_SKIP() << "this CPU has no AMX";
  Conv2dCase plain{.name = "plain", .shape = three_by_three(64, 64), .n = 2, .h = 4, .w = 4};
  Conv2dCase other = plain;
  other.shape.groups = 2;
  EXPECT_TRUE(tile_strategies(Conv2dOperands(other), 1).empty());
  other = plain;
  other.weight_zero_points = true;
  EXPECT_TRUE(tile_strategies(Conv2dOperands(other), 1).empty());
  other = plain;
  other.zero_point_per_sample = true;
  EXPECT_TRUE(tile_strategies(Conv2dOperands(other), 1).empty());
}

TEST(TilesConv2dTest, KernelOfAPlanIsTheOneThatRuns) {
  if (!has_matrix_unit()) GTEST_SKIP() << "this CPU has no AMX";
  const Conv2dOperands operands({.name = "kernel", .shape = three_by_three(64, 64), .n = 16, .h = 8, .w = 8});
  const PackedConv2d packed = operands.pack();
  EXPECT_STREQ(Conv2dPlan(packed, operands.call(), 1).kernel_name(), "tile_gemm_u8s8_32x32_amxint8");
  EXPECT_STREQ(Conv2dPlan(packed, operands.call(), 1, "winograd").kernel_name(),
               "gemm_s16s16_6x64_avx512vnni");
  EXPECT_STREQ(packed.kernel_name(), "gemm_u8s8_6x64_avx512vnni");
}

}  // namespace
}  // namespace ptqx::engine
