#include "engine/conv_phases.h"

#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "graph_builder.h"

namespace ptqx::engine {
namespace {

struct Image {
  int64_t h, w;
  std::vector<int64_t> values;

  int64_t at(int64_t y, int64_t x) const {
    const bool inside = y >= 0 && y < h && x >= 0 && x < w;
    return inside ? values[static_cast<size_t>(y * w + x)] : 0;
  }
  int64_t& at(int64_t y, int64_t x) { return values[static_cast<size_t>(y * w + x)]; }
};

Image zeros(int64_t h, int64_t w) { return {h, w, std::vector<int64_t>(static_cast<size_t>(h * w))}; }

Image counting(int64_t h, int64_t w) {
  Image image = zeros(h, w);
  std::iota(image.values.begin(), image.values.end(), 1);
  return image;
}

Image upsampled(const Image& image, int64_t factor_h, int64_t factor_w) {
  Image result = zeros((image.h - 1) * factor_h + 1, (image.w - 1) * factor_w + 1);
  for (int64_t y = 0; y < image.h; ++y) {
    for (int64_t x = 0; x < image.w; ++x) result.at(y * factor_h, x * factor_w) = image.at(y, x);
  }
  return result;
}

/// One channel, stride and dilation 1.
Image convolved(const Image& image, const Conv2dShape& s, const std::vector<int8_t>& weight) {
  Image result = zeros(s.output_h(image.h), s.output_w(image.w));
  for (int64_t y = 0; y < result.h; ++y) {
    for (int64_t x = 0; x < result.w; ++x) {
      for (int64_t tap = 0; tap < s.kernel_h * s.kernel_w; ++tap) {
        result.at(y, x) += weight[static_cast<size_t>(tap)] *
                           image.at(y - s.pad_top + tap / s.kernel_w, x - s.pad_left + tap % s.kernel_w);
      }
    }
  }
  return result;
}

/// What the phases give, each in its place; every place is written once.
Image by_phases(const Image& image, const Conv2dShape& shape, const std::vector<int8_t>& weight,
                const std::vector<ConvPhase>& phases) {
  Image result = zeros(phases[0].grid.h, phases[0].grid.w), written = result;
  for (const ConvPhase& phase : phases) {
    const Image part = convolved(image, phase.shape, phase_weight(shape, weight, phase));
    const OutputGrid& grid = phase.grid;
    for (int64_t y = 0; y < part.h; ++y) {
      for (int64_t x = 0; x < part.w; ++x) {
        result.at(grid.first_y + y * grid.step_y, grid.first_x + x * grid.step_x) = part.at(y, x);
        ++written.at(grid.first_y + y * grid.step_y, grid.first_x + x * grid.step_x);
      }
    }
  }
  EXPECT_EQ(written.values, std::vector<int64_t>(result.values.size(), 1));
  return result;
}

Conv2dShape shape_of(int64_t kernel_h, int64_t kernel_w, int64_t top, int64_t left, int64_t bottom,
                     int64_t right) {
  return {.in_channels = 1,
          .out_channels = 1,
          .kernel_h = kernel_h,
          .kernel_w = kernel_w,
          .pad_top = top,
          .pad_left = left,
          .pad_bottom = bottom,
          .pad_right = right};
}

TEST(ConvPhases, GiveWhatTheConvolutionOfTheImageWithZerosGives) {
  int found = 0;
  for (int64_t factor = 1; factor <= 3; ++factor) {
    for (int64_t kernel = 1; kernel <= 5; ++kernel) {
      for (int64_t before = 0; before <= kernel; ++before) {
        for (int64_t after = 0; after <= kernel; ++after) {
          const Image image = counting(3, 4);
          const Conv2dShape shape = shape_of(kernel, 3, before, 1, after, 2);
          if (shape.output_h(2 * factor + 1) < 1) continue;
          std::vector<int8_t> weight(static_cast<size_t>(kernel * 3));
          std::iota(weight.begin(), weight.end(), int8_t{-4});
          const auto phases = conv_phases(shape, image.h, image.w, factor, 2);
          if (!phases) continue;
          ++found;
          EXPECT_EQ(by_phases(image, shape, weight, *phases).values,
                    convolved(upsampled(image, factor, 2), shape, weight).values)
              << "factor " << factor << ", kernel " << kernel << ", padding " << before << ", " << after;
        }
      }
    }
  }
  EXPECT_GT(found, 100);
}

/// kernel, and padding before and after of the stride-1 convolution that nn.ConvTranspose2d with stride 2 is.
TEST(ConvPhases, TheUsualTransposedConvolutionsHaveFour) {
  const std::vector<std::vector<int64_t>> usual = {{2, 1, 1}, {3, 1, 1}, {3, 1, 2}, {3, 2, 2}, {4, 2, 2}};
  for (const auto& axis : usual) {
    const Conv2dShape shape = shape_of(axis[0], axis[0], axis[1], axis[1], axis[2], axis[2]);
    const auto phases = conv_phases(shape, 5, 5, 2, 2);
    ASSERT_TRUE(phases) << "kernel " << axis[0];
    EXPECT_EQ(phases->size(), 4);
    int64_t taps = 0;
    for (const ConvPhase& phase : *phases) taps += phase.shape.kernel_h * phase.shape.kernel_w;
    EXPECT_EQ(taps, axis[0] * axis[0]);  // each is in one phase
  }
}

TEST(ConvPhases, TheyAreNotMoreThanTheMost) {
  EXPECT_EQ(conv_phases(shape_of(8, 8, 7, 7, 7, 7), 3, 3, 8, 8)->size(), 64);
  EXPECT_FALSE(conv_phases(shape_of(9, 8, 8, 7, 8, 7), 3, 3, 9, 8));
  EXPECT_FALSE(conv_phases(shape_of(65, 1, 64, 0, 64, 0), 3, 3, 65, 1));
}

TEST(ConvPhases, ThereAreNoneWithoutTapsOrWithStridesOrDilation) {
  EXPECT_FALSE(conv_phases(shape_of(1, 1, 0, 0, 0, 0), 5, 5, 2, 2));
  Conv2dShape shape = shape_of(3, 3, 1, 1, 1, 1);
  shape.stride_w = 2;
  EXPECT_FALSE(conv_phases(shape, 5, 5, 2, 2));
  shape.stride_w = 1;
  shape.dilation_h = 2;
  EXPECT_FALSE(conv_phases(shape, 5, 5, 2, 2));
}

TEST(ConvPhases, NoStepWritesZerosThatNobodyReads) {
  testing::GraphBuilder b({4, 5, 5});
  const auto codes = b.quantize(b.input, b.some_qparams(0.1F));
  const auto zeros_between = b.moved("upsample_zeros2d", {codes}, {4, 9, 9}, {{"scale_factor", {2, 2}}});
  testing::ConvOptions options;
  options.kernel = {2, 2};
  options.padding = {1, 1, 1, 1};
  options.float_output = true;
  const testing::Graph graph = b.finish(b.conv2d(zeros_between, options));
  const std::vector<StepInfo> steps = Engine::from_bytes(graph.bytes()).steps();
  for (const StepInfo& step : steps) EXPECT_NE(step.op, "upsample_zeros2d");
}

}  // namespace
}  // namespace ptqx::engine
