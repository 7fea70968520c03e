#include <gtest/gtest.h>

#include "conv2d_case.h"

namespace ptqx::engine {
namespace {

constexpr const char* kWinograd = "winograd";

Conv2dShape three_by_three(int64_t in_channels, int64_t out_channels, int64_t pad) {
  return {.in_channels = in_channels,
          .out_channels = out_channels,
          .kernel_h = 3,
          .kernel_w = 3,
          .pad_top = pad,
          .pad_left = pad,
          .pad_bottom = pad,
          .pad_right = pad};
}

bool offers_winograd(const PackedConv2d& packed, const Conv2dCall& call) {
  const std::vector<std::string> names = conv2d_strategies(packed, call, 1);
  return std::find(names.begin(), names.end(), kWinograd) != names.end();
}

/// A case that the algorithm takes, and that the others have to agree with.
void expect_exact(const Conv2dCase& conv_case) {
  const Conv2dOperands operands(conv_case);
  EXPECT_TRUE(offers_winograd(operands.pack(), operands.call())) << conv_case.name;
  expect_every_row_exact(conv_case);
}

TEST(WinogradConv2dTest, MapsOfEverySizeAndPadding) {
  for (const int64_t pad : {0, 1, 2, 5}) {
    for (const auto& [h, w] :
         {std::pair<int64_t, int64_t>{1, 1}, {2, 2}, {3, 9}, {4, 4}, {6, 5}, {8, 8}, {7, 13}}) {
      if (std::min(h, w) + 2 * pad < 3) continue;
      expect_exact(
          {.name = "pad " + std::to_string(pad) + ", map " + std::to_string(h) + "x" + std::to_string(w),
           .shape = three_by_three(16, 16, pad),
           .n = 2,
           .h = h,
           .w = w,
           .input_zero_point = 200});
    }
  }
  Conv2dShape lopsided = three_by_three(16, 8, 0);
  lopsided.pad_right = 3;
  lopsided.pad_bottom = 1;
  expect_exact({.name = "lopsided", .shape = lopsided, .n = 1, .h = 5, .w = 6, .input_zero_point = 7});
}

// More tiles than meet the same weights, fewer and more columns than a vector, channels in whole vectors or
// not.
TEST(WinogradConv2dTest, ChannelsAndTilesOfEveryNumber) {
  for (const int64_t in_channels : {16, 48, 64, 80, 256}) {
    for (const int64_t out_channels : {1, 17, 48, 64, 100}) {
      expect_exact({.name = std::to_string(in_channels) + " to " + std::to_string(out_channels),
                    .shape = three_by_three(in_channels, out_channels, 1),
                    .n = 3,
                    .h = 6,
                    .w = 6,
                    .input_zero_point = 128,
                    .weight_bits = 7});
    }
  }
  expect_exact({.name = "many tiles",
                .shape = three_by_three(16, 32, 1),
                .n = 2,
                .h = 40,
                .w = 37,
                .threads = {1, 2, 3}});
}

TEST(WinogradConv2dTest, CodesOfFewBits) {
  for (const int bits : {2, 4, 5}) {
    expect_exact({.name = std::to_string(bits) + " bits",
                  .shape = three_by_three(32, 96, 1),
                  .n = 2,
                  .h = 8,
                  .w = 8,
                  .input_zero_point = 3,
                  .weight_bits = bits,
                  .threads = {1, 2}});
  }
}

TEST(WinogradConv2dTest, EveryTail) {
  const auto case_of = [](kernels::Output output, kernels::Activation activation, bool residual) {
    return Conv2dCase{.name = "output " + std::to_string(static_cast<int>(output)) + ", activation " +
                              std::to_string(static_cast<int>(activation)) + (residual ? ", residual" : ""),
                      .shape = three_by_three(16, 40, 1),
                      .n = 2,
                      .h = 6,
                      .w = 7,
                      .input_zero_point = 11,
                      .output = output,
                      .activation = activation,
                      .bias_f32 = activation == kernels::Activation::kPrelu,
                      .residual = residual,
                      .output_zero_point = output == kernels::Output::kU8 ? 60 : 0};
  };
  for (const auto activation : {kernels::Activation::kNone, kernels::Activation::kClip,
                                kernels::Activation::kPrelu, kernels::Activation::kHardswish}) {
    for (const bool residual : {false, true})
      expect_exact(case_of(kernels::Output::kU8, activation, residual));
    expect_exact(case_of(kernels::Output::kF32, activation, false));
  }
  expect_exact(case_of(kernels::Output::kU8FixedPoint, kernels::Activation::kNone, false));
}

// Sums of 255 * 128 * 9 * 112 < 2^25 are in range, those of 128 channels are not.
TEST(WinogradConv2dTest, LargestSumsDecide) {
  expect_exact({.name = "in range",
                .shape = three_by_three(112, 16, 1),
                .n = 1,
                .h = 9,
                .w = 8,
                .extreme_values = true});
  const Conv2dCase beyond{.name = "beyond", .shape = three_by_three(128, 16, 1), .extreme_values = true};
  const Conv2dOperands operands(beyond);
  EXPECT_FALSE(offers_winograd(operands.pack(), operands.call()));
  expect_every_row_exact(beyond);
}

TEST(WinogradConv2dTest, IsNotOfferedForOtherLayers) {
  const auto offered = [](const Conv2dCase& conv_case) {
    const Conv2dOperands operands(conv_case);
    return offers_winograd(operands.pack(), operands.call());
  };
  const Conv2dCase plain{.name = "plain", .shape = three_by_three(32, 32, 1)};
  EXPECT_TRUE(offered(plain));
  Conv2dCase other = plain;
  other.shape.stride_h = 2;
  EXPECT_FALSE(offered(other)) << "stride";
  other = plain;
  other.shape.dilation_w = 2;
  EXPECT_FALSE(offered(other)) << "dilation";
  other = plain;
  other.shape.groups = 2;
  EXPECT_FALSE(offered(other)) << "groups";
  other = plain;
  other.shape.in_channels = 24;
  EXPECT_FALSE(offered(other)) << "channels";
  other = plain;
  other.weight_zero_points = true;
  EXPECT_FALSE(offered(other)) << "weight zero points";
  other = plain;
  other.zero_point_per_sample = true;
  EXPECT_FALSE(offered(other)) << "dynamic";
}

TEST(WinogradConv2dTest, ScratchIsCountedAndOthersNeedNone) {
  const Conv2dCase conv_case{.name = "scratch", .shape = three_by_three(64, 64, 1), .n = 4, .h = 16, .w = 16};
  const Conv2dOperands operands(conv_case);
  const PackedConv2d packed = operands.pack();
  for (const std::string& name : conv2d_strategies(packed, operands.call(), 1)) {
    const Conv2dPlan plan(packed, operands.call(), 1, name);
    EXPECT_EQ(plan.strategy(), name);
    EXPECT_EQ(plan.scratch_bytes() > 0, name == kWinograd || name.starts_with("tiles")) << name;
    EXPECT_LT(plan.scratch_bytes(), size_t{2} << 20);
  }
}

}  // namespace
}  // namespace ptqx::engine
