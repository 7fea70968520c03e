#include "engine/conv_phases.h"

#include <algorithm>

namespace ptqx::engine {
namespace {

struct AxisPhase {
  int64_t outputs;
  int64_t first_tap, taps;
  int64_t pad_before, pad_after;
};

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Outputs first, first + factor, ... of one axis.
AxisPhase axis_phase(int64_t inputs, int64_t outputs, int64_t kernel, int64_t pad, int64_t factor,
                     int64_t first) {
  // Of output `first`, tap t lies at first - pad + t, which holds a pixel every factor-th time.
  const int64_t tap = ((pad - first) % factor + factor) % factor;
  const int64_t pixel = (first - pad + tap) / factor;
  AxisPhase phase{.outputs = ceil_div(outputs - first, factor),
                  .first_tap = tap,
                  .taps = ceil_div(kernel - tap, factor),
                  .pad_before = -pixel,
                  .pad_after = 0};
  phase.pad_after = pixel + phase.outputs - 1 + phase.taps - inputs;
  return phase;
}

bool is_convolution(const AxisPhase& phase) {
  return phase.taps > 0 && phase.pad_before >= 0 && phase.pad_after >= 0;
}

}  // namespace

std::optional<std::vector<ConvPhase>> conv_phases(const Conv2dShape& s, int64_t h, int64_t w,
                                                  int64_t factor_h, int64_t factor_w) {
  if (s.stride_h != 1 || s.stride_w != 1 || s.dilation_h != 1 || s.dilation_w != 1) return std::nullopt;
  if (factor_h > kMostPhases || factor_w > kMostPhases / factor_h) return std::nullopt;
  const int64_t oh = s.output_h((h - 1) * factor_h + 1);
  const int64_t ow = s.output_w((w - 1) * factor_w + 1);
  std::vector<ConvPhase> phases;
  for (int64_t y = 0; y < std::min(factor_h, oh); ++y) {
    const AxisPhase rows = axis_phase(h, oh, s.kernel_h, s.pad_top, factor_h, y);
    for (int64_t x = 0; x < std::min(factor_w, ow); ++x) {
      const AxisPhase columns = axis_phase(w, ow, s.kernel_w, s.pad_left, factor_w, x);
      if (!is_convolution(rows) || !is_convolution(columns)) return std::nullopt;
      phases.push_back(
          {.shape = {.in_channels = s.in_channels,
                     .out_channels = s.out_channels,
                     .kernel_h = rows.taps,
                     .kernel_w = columns.taps,
                     .pad_top = rows.pad_before,
                     .pad_left = columns.pad_before,
                     .pad_bottom = rows.pad_after,
                     .pad_right = columns.pad_after,
                     .groups = s.groups},
           .grid = {.h = oh, .w = ow, .first_y = y, .first_x = x, .step_y = factor_h, .step_x = factor_w},
           .first_tap_h = rows.first_tap,
           .first_tap_w = columns.first_tap});
    }
  }
  return phases;
}

std::vector<int8_t> phase_weight(const Conv2dShape& s, const std::vector<int8_t>& weight,
                                 const ConvPhase& phase) {
  std::vector<int8_t> taps;
  const int64_t kernels = s.out_channels * (s.in_channels / s.groups);
  taps.reserve(static_cast<size_t>(kernels * phase.shape.kernel_h * phase.shape.kernel_w));
  for (int64_t kernel = 0; kernel < kernels; ++kernel) {
    for (int64_t row = phase.first_tap_h; row < s.kernel_h; row += phase.grid.step_y) {
      for (int64_t column = phase.first_tap_w; column < s.kernel_w; column += phase.grid.step_x) {
        taps.push_back(weight[static_cast<size_t>((kernel * s.kernel_h + row) * s.kernel_w + column)]);
      }
    }
  }
  return taps;
}

}  // namespace ptqx::engine
