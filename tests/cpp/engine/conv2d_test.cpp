#include "engine/conv2d.h"

#include <gtest/gtest.h>

#include <set>
#include <stdexcept>

#include "engine/conv2d_case.h"
#include "kernels/gemm.h"

namespace ptqx::engine {
namespace {

using kernels::Activation;
using kernels::Output;

class Conv2dTest : public testing::TestWithParam<Conv2dCase> {};

TEST_P(Conv2dTest, EveryRowEqualsTheDefinition) { expect_every_row_exact(GetParam()); }

std::string case_name(const testing::TestParamInfo<Conv2dCase>& info) { return info.param.name; }

Conv2dShape square(int64_t in_channels, int64_t out_channels, int64_t kernel, int64_t pad, int64_t stride = 1,
                   int64_t dilation = 1, int64_t groups = 1) {
  return {.in_channels = in_channels,
          .out_channels = out_channels,
          .kernel_h = kernel,
          .kernel_w = kernel,
          .stride_h = stride,
          .stride_w = stride,
          .pad_top = pad,
          .pad_left = pad,
          .pad_bottom = pad,
          .pad_right = pad,
          .dilation_h = dilation,
          .dilation_w = dilation,
          .groups = groups};
}

/// One below, at and one above the panel widths, with pixels to fill tiles of every height.
std::vector<Conv2dCase> output_channel_cases() {
  std::vector<Conv2dCase> cases;
  for (const int64_t oc :
       {1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 95, 96, 97, 127, 128, 129, 160}) {
    for (const Output output : {Output::kS32, Output::kU8, Output::kU8FixedPoint}) {
      const std::string kind = output == Output::kU8 ? "U8" : output == Output::kS32 ? "S32" : "U8FixedPoint";
      cases.push_back({.name = "OutChannels" + std::to_string(oc) + kind,
                       .shape = square(8, oc, 3, 1),
                       .n = 2,
                       .h = 5,
                       .w = 4,
                       .output = output});
    }
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(OutputChannels, Conv2dTest, testing::ValuesIn(output_channel_cases()), case_name);

/// Ragged last dwords, with the input's end in reach.
std::vector<Conv2dCase> input_channel_cases() {
  std::vector<Conv2dCase> cases;
  for (const int64_t ic : {1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65}) {
    cases.push_back({.name = "InChannels" + std::to_string(ic),
                     .shape = square(ic, 20, 3, 1),
                     .n = 2,
                     .h = 3,
                     .w = 4,
                     .input_zero_point = 7});
    cases.push_back({.name = "Linear" + std::to_string(ic),
                     .shape = linear_shape(ic, 70),
                     .n = 5,
                     .h = 1,
                     .w = 1,
                     .output = Output::kF32});
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(InputChannels, Conv2dTest, testing::ValuesIn(input_channel_cases()), case_name);

/// Every count of pixels up to more than two of the highest tile, for each panel width.
std::vector<Conv2dCase> pixel_cases() {
  std::vector<Conv2dCase> cases;
  for (const int64_t oc : {16, 32, 48, 64}) {
    for (int64_t n = 1; n <= 50; ++n) {
      cases.push_back({.name = "Pixels" + std::to_string(n) + "x" + std::to_string(oc),
                       .shape = linear_shape(12, oc),
                       .n = n,
                       .h = 1,
                       .w = 1});
    }
    for (const int64_t n : {95, 96, 97, 192, 193, 200}) {
      cases.push_back({.name = "Pixels" + std::to_string(n) + "x" + std::to_string(oc),
                       .shape = linear_shape(5, oc),
                       .n = n,
                       .h = 1,
                       .w = 1,
                       .threads = {1, 5}});
    }
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Pixels, Conv2dTest, testing::ValuesIn(pixel_cases()), case_name);

std::vector<Conv2dCase> geometry_cases() {
  std::vector<Conv2dCase> cases;
  for (int64_t kernel = 1; kernel <= 7; ++kernel) {
    for (const int64_t stride : {1, 2, 3}) {
      const std::string name = "Kernel" + std::to_string(kernel) + "Stride" + std::to_string(stride);
      cases.push_back({.name = name,
                       .shape = square(5, 18, kernel, kernel / 2, stride),
                       .n = 2,
                       .h = 9,
                       .w = 8,
                       .input_zero_point = 31});
      cases.push_back({.name = name + "Depthwise",
                       .shape = square(18, 18, kernel, kernel / 2, stride, 1, 18),
                       .n = 2,
                       .h = 9,
                       .w = 8,
                       .input_zero_point = 31});
    }
    cases.push_back({.name = "Kernel" + std::to_string(kernel) + "Aligned",
                     .shape = square(16, 64, kernel, kernel / 2),
                     .n = 2,
                     .h = 7,
                     .w = 6,
                     .input_zero_point = 255});
  }
  for (const int64_t groups : {1, 2, 6}) {
    cases.push_back({.name = "Dilation2Groups" + std::to_string(groups),
                     .shape = square(12, 18, 3, 2, 1, 2, groups),
                     .n = 2,
                     .h = 7,
                     .w = 8,
                     .input_zero_point = 3});
    cases.push_back({.name = "Dilation3Stride2Groups" + std::to_string(groups),
                     .shape = square(12, 18, 3, 3, 2, 3, groups),
                     .n = 2,
                     .h = 9,
                     .w = 10,
                     .input_zero_point = 3});
  }
  cases.push_back({.name = "Dilation2Depthwise",
                   .shape = square(70, 70, 3, 2, 1, 2, 70),
                   .n = 2,
                   .h = 7,
                   .w = 8,
                   .input_zero_point = 3});
  cases.push_back({.name = "Dilation300Depthwise",
                   .shape = square(3, 3, 2, 300, 1, 300, 3),
                   .n = 1,
                   .h = 4,
                   .w = 3,
                   .input_zero_point = 3});
  cases.push_back({.name = "AsymmetricPadding",
                   .shape = {.in_channels = 8,
                             .out_channels = 24,
                             .kernel_h = 3,
                             .kernel_w = 4,
                             .stride_h = 2,
                             .stride_w = 1,
                             .pad_top = 0,
                             .pad_left = 3,
                             .pad_bottom = 2,
                             .pad_right = 1,
                             .dilation_h = 1,
                             .dilation_w = 2},
                   .n = 3,
                   .h = 6,
                   .w = 9,
                   .input_zero_point = 128});
  cases.push_back({.name = "AsymmetricPaddingDepthwise",
                   .shape = {.in_channels = 66,
                             .out_channels = 66,
                             .kernel_h = 5,
                             .kernel_w = 2,
                             .stride_h = 2,
                             .stride_w = 3,
                             .pad_top = 1,
                             .pad_left = 0,
                             .pad_bottom = 4,
                             .pad_right = 2,
                             .groups = 66},
                   .n = 2,
                   .h = 6,
                   .w = 11,
                   .input_zero_point = 128});
  for (const int64_t groups : {1, 10}) {
    cases.push_back({.name = "RegionsOfPaddingOnlyGroups" + std::to_string(groups),
                     .shape = square(10, 20, 2, 5, 1, 1, groups),
                     .n = 2,
                     .h = 2,
                     .w = 3,
                     .input_zero_point = 9});
  }
  cases.push_back({.name = "RegionsOfPaddingOnlyDepthwise",
                   .shape = square(10, 10, 2, 5, 2, 1, 10),
                   .n = 2,
                   .h = 2,
                   .w = 3,
                   .input_zero_point = 9});
  cases.push_back({.name = "KernelLargerThanInput",
                   .shape = square(4, 8, 7, 3),
                   .n = 2,
                   .h = 2,
                   .w = 1,
                   .input_zero_point = 200});
  cases.push_back(
      {.name = "RowOf1",
       .shape =
           {.in_channels = 6, .out_channels = 9, .kernel_h = 1, .kernel_w = 7, .pad_left = 3, .pad_right = 3},
       .n = 2,
       .h = 1,
       .w = 20});
  cases.push_back({.name = "WideDepthwise",
                   .shape = square(64, 64, 3, 1, 1, 1, 64),
                   .n = 1,
                   .h = 3,
                   .w = 150,
                   .input_zero_point = 17});
  cases.push_back({.name = "WideStride3Depthwise",
                   .shape = square(65, 65, 7, 3, 3, 2, 65),
                   .n = 1,
                   .h = 14,
                   .w = 260,
                   .input_zero_point = 17});
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Geometry, Conv2dTest, testing::ValuesIn(geometry_cases()), case_name);

std::vector<Conv2dCase> group_cases() {
  std::vector<Conv2dCase> cases;
  for (const int64_t groups : {1, 2, 3, 4, 6, 12}) {
    cases.push_back({.name = "Groups" + std::to_string(groups) + "Of12",
                     .shape = square(12, 24, 3, 1, 1, 1, groups),
                     .n = 2,
                     .h = 4,
                     .w = 5,
                     .input_zero_point = 5,
                     .threads = {1, 2}});
  }
  // Input channels of a group that are no multiple of 4 read into the neighbour's.
  cases.push_back({.name = "Groups3Of15", .shape = square(15, 51, 2, 1, 1, 1, 3), .n = 2, .h = 4, .w = 5});
  cases.push_back(
      {.name = "Groups2WidePanels", .shape = square(10, 140, 1, 0, 1, 1, 2), .n = 2, .h = 4, .w = 5});
  // Groups that share panels; of the last panel, all or some.
  for (const int64_t width : {4, 8}) {
    for (const int64_t groups : {2, 3, 4, 5, 8, 13}) {
      for (const int64_t stride : {1, 2}) {
        cases.push_back({.name = "Groups" + std::to_string(groups) + "Width" + std::to_string(width) +
                                 "Stride" + std::to_string(stride),
                         .shape = square(width * groups, width * groups, 3, 1, stride, 1, groups),
                         .n = 2,
                         .h = 9,
                         .w = 8,
                         .input_zero_point = 5,
                         .threads = {1, 2}});
      }
    }
  }
  for (const int64_t channels : {2, 15, 16, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200}) {
    cases.push_back({.name = "Depthwise" + std::to_string(channels),
                     .shape = square(channels, channels, 3, 1, 1, 1, channels),
                     .n = 2,
                     .h = 4,
                     .w = 5,
                     .input_zero_point = 77,
                     .threads = {1, 5}});
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Groups, Conv2dTest, testing::ValuesIn(group_cases()), case_name);

std::vector<Conv2dCase> number_cases() {
  std::vector<Conv2dCase> cases;
  const Conv2dShape dense = square(9, 37, 3, 1);
  const Conv2dShape grouped = square(12, 30, 3, 1, 2, 1, 2);
  const Conv2dShape depthwise = square(37, 37, 3, 1, 1, 1, 37);
  struct Kind {
    const char* name;
    Conv2dShape shape;
  };
  for (const Kind& kind : {Kind{"Dense", dense}, {"Grouped", grouped}, {"Depthwise", depthwise}}) {
    const std::string name = kind.name;
    const Conv2dCase base{.name = name, .shape = kind.shape, .n = 3, .h = 5, .w = 6};
    const auto add = [&](const std::string& suffix, auto change) {
      Conv2dCase c = base;
      c.name = name + suffix;
      change(c);
      cases.push_back(c);
    };
    for (const int32_t zero_point : {0, 1, 128, 255}) {
      add("InputZeroPoint" + std::to_string(zero_point),
          [&](Conv2dCase& c) { c.input_zero_point = zero_point; });
    }
    add("ExtremeValues", [](Conv2dCase& c) { c.extreme_values = true; });
    add("ExtremeValuesInputZeroPoint255", [](Conv2dCase& c) {
      c.extreme_values = true;
      c.input_zero_point = 255;
    });
    add("ZeroPointPerSample", [](Conv2dCase& c) { c.zero_point_per_sample = true; });
    add("WeightZeroPoints", [](Conv2dCase& c) { c.weight_zero_points = true; });
    add("AllZeroPoints", [](Conv2dCase& c) { c.weight_zero_points = c.zero_point_per_sample = true; });
    add("WeightAndInputZeroPoint", [](Conv2dCase& c) {
      c.weight_zero_points = true;
      c.input_zero_point = 91;
      c.output = Output::kU8;
    });
    add("Dynamic", [](Conv2dCase& c) {
      c.zero_point_per_sample = c.sample_scale = c.bias_f32 = true;
      c.bias = false;
      c.output = Output::kF32;
    });
    add("Misaligned1", [](Conv2dCase& c) {
      c.misalignment = 1;
      c.output = Output::kU8;
    });
    add("Misaligned3S32", [](Conv2dCase& c) { c.misalignment = 3; });
    add("Misaligned7F32", [](Conv2dCase& c) {
      c.misalignment = 7;
      c.output = Output::kF32;
    });
    add("Batch0", [](Conv2dCase& c) { c.n = 0; });
    add("NoBias", [](Conv2dCase& c) { c.bias = false; });
  }
  cases.push_back({.name = "LongSumExtremeValues",
                   .shape = linear_shape(4613, 65),
                   .n = 7,
                   .h = 1,
                   .w = 1,
                   .extreme_values = true});
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Numbers, Conv2dTest, testing::ValuesIn(number_cases()), case_name);

std::vector<Conv2dCase> tail_cases() {
  struct Kind {
    const char* name;
    Activation activation;
  };
  std::vector<Conv2dCase> cases;
  for (const Kind& kind : {Kind{"None", Activation::kNone},
                           {"Clip", Activation::kClip},
                           {"LeakyRelu", Activation::kLeakyRelu},
                           {"Prelu", Activation::kPrelu},
                           {"Hardsigmoid", Activation::kHardsigmoid},
                           {"Hardswish", Activation::kHardswish}}) {
    for (const bool residual : {false, true}) {
      for (const Output output : {Output::kU8, Output::kF32}) {
        for (const int64_t groups : {1, 40}) {
          cases.push_back({.name = std::string(kind.name) + (residual ? "Residual" : "") +
                                   (output == Output::kU8 ? "U8" : "F32") + (groups == 1 ? "" : "Depthwise"),
                           .shape = square(40, 40, 3, 1, 1, 1, groups),
                           .n = 2,
                           .h = 4,
                           .w = 5,
                           .input_zero_point = 12,
                           .output = output,
                           .activation = kind.activation,
                           .bias_f32 = residual,
                           .residual = residual,
                           .output_zero_point = residual ? 113 : 0,
                           .qmin = residual ? 4 : 0,
                           .qmax = residual ? 231 : 255,
                           .threads = {1, 2}});
        }
      }
    }
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Tails, Conv2dTest, testing::ValuesIn(tail_cases()), case_name);

/// Results of few bits, whose largest code is no byte's.
std::vector<Conv2dCase> small_codes_cases() {
  std::vector<Conv2dCase> cases;
  for (const int64_t channels : {16, 40, 48, 64}) {
    for (const int32_t qmax : {7, 15, 120}) {
      for (const bool clip : {false, true}) {
        for (const bool residual : {false, true}) {
          for (const int64_t groups : {int64_t{1}, channels}) {
            cases.push_back({.name = "channels" + std::to_string(channels) + "qmax" + std::to_string(qmax) +
                                     (clip ? "Clip" : "") + (residual ? "Residual" : "") +
                                     (groups == 1 ? "" : "Depthwise"),
                             .shape = square(channels, channels, 3, 1, 1, 1, groups),
                             .n = 2,
                             .h = 5,
                             .w = 6,
                             .output = Output::kU8,
                             .activation = clip ? Activation::kClip : Activation::kNone,
                             .residual = residual,
                             .output_zero_point = clip ? 0 : 3,
                             .qmax = qmax,
                             .threads = {1, 2}});
          }
        }
      }
    }
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(SmallCodes, Conv2dTest, testing::ValuesIn(small_codes_cases()), case_name);

std::vector<Conv2dCase> scale_per_group_cases() {
  std::vector<Conv2dCase> cases;
  for (const int64_t ic : {4, 15, 16, 17, 32, 50}) {
    for (const int64_t group_size : {4, 16, 32}) {
      cases.push_back({.name = "GroupSize" + std::to_string(group_size) + "Of" + std::to_string(ic),
                       .shape = square(ic, 33, 3, 1),
                       .n = 2,
                       .h = 4,
                       .w = 5,
                       .input_zero_point = 40,
                       .group_size = group_size,
                       .output = Output::kU8,
                       .activation = Activation::kClip,
                       .bias = false,
                       .bias_f32 = true,
                       .output_zero_point = 20});
    }
  }
  cases.push_back({.name = "GroupSizeWithAllZeroPointsAndSampleScale",
                   .shape = square(20, 66, 2, 1),
                   .n = 3,
                   .zero_point_per_sample = true,
                   .weight_zero_points = true,
                   .sample_scale = true,
                   .group_size = 8,
                   .output = Output::kF32,
                   .bias = false,
                   .bias_f32 = true,
                   .threads = {1, 2}});
  return cases;
}
INSTANTIATE_TEST_SUITE_P(ScalePerGroup, Conv2dTest, testing::ValuesIn(scale_per_group_cases()), case_name);

std::vector<Conv2dCase> thread_cases() {
  std::vector<Conv2dCase> cases;
  const std::vector<int> threads = {1, 2, 5};
  cases.push_back(
      {.name = "SmallMap", .shape = square(64, 256, 3, 1), .n = 1, .h = 4, .w = 4, .threads = threads});
  cases.push_back({.name = "LargeMap",
                   .shape = square(16, 16, 3, 1),
                   .n = 2,
                   .h = 20,
                   .w = 20,
                   .input_zero_point = 3,
                   .output = Output::kU8,
                   .threads = threads});
  cases.push_back(
      {.name = "OnePixel", .shape = linear_shape(200, 300), .n = 1, .h = 1, .w = 1, .threads = threads});
  cases.push_back({.name = "Depthwise",
                   .shape = square(192, 192, 3, 1, 1, 1, 192),
                   .n = 1,
                   .h = 1,
                   .w = 7,
                   .threads = threads});
  cases.push_back({.name = "WeightsLargerThanCache",
                   .shape = square(256, 160, 3, 1),
                   .n = 2,
                   .h = 3,
                   .w = 3,
                   .output = Output::kU8,
                   .threads = threads});
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Threads, Conv2dTest, testing::ValuesIn(thread_cases()), case_name);

/// Maps small enough, with weights large enough, to be made tap by tap.
std::vector<Conv2dCase> tap_cases() {
  std::vector<Conv2dCase> cases;
  for (const int64_t size : {1, 2, 3, 4, 5, 6, 7}) {
    cases.push_back({.name = "Size" + std::to_string(size),
                     .shape = square(130, 144, 3, 1),
                     .n = 1,
                     .h = size,
                     .w = size,
                     .input_zero_point = 90,
                     .output = Output::kU8,
                     .activation = Activation::kClip,
                     .threads = {1, 2}});
  }
  cases.push_back({.name = "Batch",
                   .shape = square(256, 64, 3, 1),
                   .n = 4,
                   .h = 3,
                   .w = 2,
                   .sample_scale = true,
                   .output = Output::kF32});
  cases.push_back({.name = "Stride2Dilation2",
                   .shape = square(256, 65, 3, 2, 2, 2),
                   .n = 2,
                   .h = 5,
                   .w = 6,
                   .input_zero_point = 255,
                   .residual = true});
  cases.push_back(
      {.name = "PaddingOnly", .shape = square(513, 16, 2, 3), .n = 1, .h = 1, .w = 1, .input_zero_point = 4});
  return cases;
}
INSTANTIATE_TEST_SUITE_P(TapByTap, Conv2dTest, testing::ValuesIn(tap_cases()), case_name);

/// Channels that do not fill dwords: where a row of taps lies on the input from end to end it is one string.
std::vector<Conv2dCase> string_cases() {
  std::vector<Conv2dCase> cases;
  for (const int64_t channels : {1, 2, 3, 5, 6, 7}) {
    for (const int64_t kernel : {2, 3, 5, 7}) {
      for (const int64_t stride : {1, 2}) {
        cases.push_back({.name = "Channels" + std::to_string(channels) + "Kernel" + std::to_string(kernel) +
                                 "Stride" + std::to_string(stride),
                         .shape = square(channels, 18, kernel, kernel / 2, stride),
                         .n = 2,
                         .h = 9,
                         .w = 13,
                         .input_zero_point = 77,
                         .output = Output::kU8,
                         .threads = {1, 2}});
      }
    }
  }
  cases.push_back({.name = "DilatedRows", .shape = square(3, 65, 7, 3, 1, 1), .n = 1, .h = 11, .w = 12});
  cases.back().shape.dilation_h = 2;
  cases.push_back({.name = "DilatedColumns", .shape = square(3, 65, 5, 2, 1, 2), .n = 1, .h = 11, .w = 12});
  cases.push_back({.name = "ZeroPointsPerSample",
                   .shape = square(3, 20, 5, 2),
                   .n = 3,
                   .zero_point_per_sample = true,
                   .sample_scale = true,
                   .output = Output::kF32});
  cases.push_back(
      {.name = "WeightZeroPoints", .shape = square(3, 20, 5, 2), .n = 2, .weight_zero_points = true});
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Strings, Conv2dTest, testing::ValuesIn(string_cases()), case_name);

/// Weights of few bits: with input channels in eights they are packed two to a byte, else as bytes.
std::vector<Conv2dCase> few_bits_cases() {
  std::vector<Conv2dCase> cases;
  for (const int64_t ic : {8, 12, 16, 24, 64, 72}) {
    for (const int64_t oc : {10, 33, 96, 129}) {
      cases.push_back({.name = "Int4Channels" + std::to_string(ic) + "To" + std::to_string(oc),
                       .shape = square(ic, oc, 3, 1),
                       .n = 2,
                       .h = 4,
                       .w = 5,
                       .input_zero_point = 90,
                       .weight_bits = 4});
    }
  }
  for (const int64_t group_size : {4, 8, 12, 24}) {
    cases.push_back({.name = "Int4GroupSize" + std::to_string(group_size),
                     .shape = square(40, 33, 3, 1),
                     .n = 2,
                     .input_zero_point = 40,
                     .group_size = group_size,
                     .weight_bits = 4,
                     .output = Output::kU8,
                     .bias = false,
                     .bias_f32 = true});
  }
  cases.push_back({.name = "Int4Grouped",
                   .shape = square(48, 60, 3, 1, 2, 2, 3),
                   .n = 2,
                   .h = 7,
                   .w = 6,
                   .weight_bits = 4,
                   .output = Output::kU8,
                   .residual = true,
                   .threads = {1, 2}});
  cases.push_back({.name = "Int4Dynamic",
                   .shape = linear_shape(200, 300),
                   .n = 3,
                   .h = 1,
                   .w = 1,
                   .zero_point_per_sample = true,
                   .sample_scale = true,
                   .weight_bits = 4,
                   .output = Output::kF32});
  cases.push_back({.name = "Int4WithWeightZeroPoints",
                   .shape = square(16, 20, 3, 1),
                   .weight_zero_points = true,
                   .weight_bits = 4});
  cases.push_back({.name = "Int4TapByTap",
                   .shape = square(256, 144, 3, 1),
                   .n = 2,
                   .h = 3,
                   .w = 3,
                   .input_zero_point = 7,
                   .weight_bits = 4,
                   .output = Output::kU8,
                   .threads = {1, 2}});
  cases.push_back({.name = "Int4Extreme",
                   .shape = linear_shape(4 * kernels::kGemmS4Dwords, 17),
                   .n = 7,
                   .h = 1,
                   .w = 1,
                   .weight_bits = 4,
                   .extreme_values = true});
  cases.push_back({.name = "Int4ExtremeTooLong",
                   .shape = linear_shape(4 * kernels::kGemmS4Dwords + 8, 17),
                   .n = 7,
                   .h = 1,
                   .w = 1,
                   .weight_bits = 4,
                   .extreme_values = true});
  cases.push_back({.name = "Int2", .shape = square(16, 20, 3, 1), .weight_bits = 2});
  return cases;
}
INSTANTIATE_TEST_SUITE_P(FewBits, Conv2dTest, testing::ValuesIn(few_bits_cases()), case_name);

TEST(PackedConv2dTest, CodesOf4BitsLieTwoToAByte) {
  std::vector<int8_t> weight(64 * 64, 7);
  const auto is_s4 = [&](const PackedConv2d& packed) {
    return std::string(packed.kernel_name()).starts_with("gemm_u8s4");
  };
  const PackedConv2d four_bits(linear_shape(64, 64), weight.data());
  EXPECT_TRUE(is_s4(four_bits));
  EXPECT_FALSE(is_s4(PackedConv2d(linear_shape(60, 64), weight.data())));
  EXPECT_FALSE(is_s4(PackedConv2d(linear_shape(64, 64), weight.data(), nullptr, 4)));
  EXPECT_TRUE(is_s4(PackedConv2d(linear_shape(64, 64), weight.data(), nullptr, 8)));
  weight.back() = 8;
  const PackedConv2d eight_bits(linear_shape(64, 64), weight.data());
  EXPECT_FALSE(is_s4(eight_bits));
  EXPECT_EQ(eight_bits.bytes() - four_bits.bytes(), 64U * 64U / 2U);
}

TEST(PackedConv2dTest, LayersOfInputsWithoutZeroPointsNeedLess) {
  for (const int64_t groups : {1, 32}) {
    Conv2dCase conv_case{.name = "zero point 0",
                         .shape = {.in_channels = 32,
                                   .out_channels = 32,
                                   .kernel_h = 3,
                                   .kernel_w = 3,
                                   .pad_top = 1,
                                   .pad_left = 1,
                                   .pad_bottom = 1,
                                   .pad_right = 1,
                                   .groups = groups},
                         .n = 2,
                         .h = 10,
                         .w = 8};
    const Conv2dOperands operands(conv_case);
    PackedConv2d packed = operands.pack();
    const size_t before = packed.bytes();
    packed.forget_zero_points();
    EXPECT_GE(before - packed.bytes(), 9U * 32U * sizeof(int32_t));  // of whole panels
    for (const std::string& name : conv2d_strategies(packed, operands.call(), 1)) {
      EXPECT_EQ(operands.run(packed, ThreadExecutor(1), name), operands.reference()) << name;
    }
    Conv2dCall call = operands.call();
    call.input_zero_point = 3;
    EXPECT_THROW(Conv2dPlan(packed, call, 1), std::invalid_argument);
  }
}

TEST(PackedConv2dTest, PackRejectsBadShapes) {
  const std::vector<int8_t> weight(64, 1);
  const auto pack = [&](Conv2dShape shape, int64_t group_size = 0) {
    PackedConv2d(shape, weight.data(), nullptr, group_size);
  };
  EXPECT_THROW(pack({.in_channels = 0, .out_channels = 4, .kernel_h = 1, .kernel_w = 1}),
               std::invalid_argument);
  EXPECT_THROW(pack({.in_channels = 4, .out_channels = 0, .kernel_h = 1, .kernel_w = 1}),
               std::invalid_argument);
  EXPECT_THROW(pack(square(4, 4, 1, -1)), std::invalid_argument);
  EXPECT_THROW(pack(square(4, 4, 1, 0, 0)), std::invalid_argument);
  EXPECT_THROW(pack(square(4, 4, 1, 0, 1, 0)), std::invalid_argument);
  EXPECT_THROW(pack(square(4, 6, 1, 0, 1, 1, 4)), std::invalid_argument);
  EXPECT_THROW(pack(square(8, 4, 1, 0), 6), std::invalid_argument);
  EXPECT_THROW(pack(square(8, 4, 1, 0, 1, 1, 2), 4), std::invalid_argument);
  EXPECT_THROW(PackedConv2d(square(4, 4, 1, 0), nullptr), std::invalid_argument);
  try {
    pack(square(4, 4, 1, 0, 0));
    FAIL() << "stride 0 was accepted";
  } catch (const std::invalid_argument& error) {
    EXPECT_STREQ(error.what(), "conv2d: stride_h: expected at least 1, got 0");
  }
}

TEST(PackedConv2dTest, CallRejectsInputSmallerThanKernel) {
  const std::vector<int8_t> weight(9, 1);
  const PackedConv2d packed(square(1, 1, 3, 0), weight.data());
  Conv2dCall call{.n = 1, .h = 2, .w = 3, .tail = {}};
  call.tail.output = Output::kS32;
  EXPECT_THROW(Conv2dPlan(packed, call, 1), std::invalid_argument);
}

TEST(PackedConv2dTest, ScalePerGroupRejectsIntegerBias) {
  const std::vector<int8_t> weight(8, 1);
  const PackedConv2d packed(linear_shape(8, 1), weight.data(), nullptr, 4);
  const int32_t bias = 3;
  const float multiplier[2] = {1.0F, 1.0F};
  Conv2dCall call{.n = 1, .h = 1, .w = 1, .tail = {}};
  call.tail.output = Output::kF32;
  call.tail.bias = &bias;
  call.tail.multiplier = multiplier;
  EXPECT_THROW(Conv2dPlan(packed, call, 1), std::invalid_argument);
}

/// The definition, tap by tap.
int64_t counted_macs(const Conv2dShape& s, int64_t h, int64_t w, bool padding) {
  const auto on = [&](int64_t position, int64_t size) {
    return padding || (position >= 0 && position < size);
  };
  int64_t count = 0;
  for (int64_t y = 0; y < s.output_h(h); ++y) {
    for (int64_t x = 0; x < s.output_w(w); ++x) {
      for (int64_t r = 0; r < s.kernel_h; ++r) {
        for (int64_t t = 0; t < s.kernel_w; ++t) {
          count += on(y * s.stride_h - s.pad_top + r * s.dilation_h, h) &&
                   on(x * s.stride_w - s.pad_left + t * s.dilation_w, w);
        }
      }
    }
  }
  return count * s.out_channels * (s.in_channels / s.groups);
}

TEST(Conv2dShapeTest, MacsAreThoseOfTheDefinition) {
  Conv2dShape lopsided = square(6, 4, 3, 1, 2, 2, 2);
  lopsided.kernel_w = 5;
  lopsided.pad_right = 4;
  for (const Conv2dShape& shape : {square(3, 8, 3, 1), square(3, 8, 1, 0), square(8, 8, 7, 3, 2), lopsided}) {
    EXPECT_EQ(nominal_macs(shape, 9, 8), counted_macs(shape, 9, 8, true));
    EXPECT_EQ(useful_macs(shape, 9, 8), counted_macs(shape, 9, 8, false));
  }
}

TEST(Conv2dPlanTest, StrategiesAreSeveralAndTheFirstRunsUnasked) {
  const std::vector<int8_t> weight(size_t{256} * 256 * 9, 1);
  const PackedConv2d packed(square(256, 256, 3, 1), weight.data());
  Conv2dCall call{.n = 1, .h = 4, .w = 4, .tail = {}};
  call.tail.output = Output::kS32;
  const std::vector<std::string> names = conv2d_strategies(packed, call, 1);
  EXPECT_GT(names.size(), 2U);
  const auto items = [&](const std::string& strategy) {
    return Conv2dPlan(packed, call, 1, strategy).items();
  };
  EXPECT_EQ(items({}), items(names.front()));
  EXPECT_EQ(items("no such strategy"), items(names.front()));
  std::set<int64_t> different;
  for (const std::string& name : names) different.insert(items(name));
  EXPECT_GT(different.size(), 1U);
}

TEST(PackedConv2dTest, KernelFollowsTheCeiling) {
  const IsaGuard guard;
  const std::vector<int8_t> weight(64 * 64, 100);
  kernels::set_isa_ceiling(kernels::Isa::kScalar);
  EXPECT_STREQ(PackedConv2d(linear_shape(64, 64), weight.data()).kernel_name(), "gemm_u8s8_scalar");
  EXPECT_STREQ(PackedConv2d(square(64, 64, 1, 0, 1, 1, 64), weight.data()).kernel_name(),
               "depthwise_u8s8_scalar");
}

TEST(PackedConv2dTest, SlackIsOnlyForRaggedChannels) {
  const std::vector<int8_t> weight(64, 1);
  EXPECT_EQ(PackedConv2d(linear_shape(16, 4), weight.data()).input_slack(), 0U);
  EXPECT_EQ(PackedConv2d(linear_shape(13, 4), weight.data()).input_slack(), 3U);
  EXPECT_EQ(PackedConv2d(square(1, 2, 5, 0), weight.data()).input_slack(), 3U);  // rows of 5 taps in 8 bytes
  EXPECT_EQ(PackedConv2d(square(6, 6, 1, 0, 1, 1, 6), weight.data()).input_slack(), 0U);
}

}  // namespace
}  // namespace ptqx::engine
