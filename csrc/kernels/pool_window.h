#pragma once

// Which rows (or columns) of the image a pooling window covers. In an anonymous namespace because
// files of every instruction set include it.

#include <cstdint>

#include "kernels/pool.h"

namespace ptqx::kernels {
namespace {

/// Positions begin, begin + 1, ... end - 1 of the image; `counted` is the length that
/// count_include_pad divides by.
struct Window {
  int64_t begin, end, counted;
};

inline Window window_of(int64_t start, int64_t stop, int64_t size, int64_t counted) {
  const int64_t begin = start < 0 ? 0 : start;
  const int64_t end = stop > size ? size : stop;
  return {begin, end < begin ? begin : end, counted};
}

inline Window avg_window(int64_t output, int64_t size, int64_t kernel, int64_t stride, int64_t pad_before,
                         int64_t pad_after) {
  const int64_t start = output * stride - pad_before;
  const int64_t stop = start + kernel;
  const int64_t padded_end = size + pad_after;
  return window_of(start, stop, size, (stop > padded_end ? padded_end : stop) - start);
}

inline Window adaptive_window(int64_t output, int64_t size, int64_t outputs) {
  const int64_t begin = output * size / outputs;
  const int64_t end = ((output + 1) * size + outputs - 1) / outputs;
  return {begin, end, end - begin};
}

/// Taps first, first + 1, ... last - 1 of a dilated window lie inside the image, at start + tap * dilation.
struct Taps {
  int64_t start, first, last;
};

inline Taps max_taps(int64_t output, int64_t size, int64_t kernel, int64_t stride, int64_t pad_before,
                     int64_t dilation) {
  const int64_t start = output * stride - pad_before;
  const int64_t first = start >= 0 ? 0 : (-start + dilation - 1) / dilation;
  const int64_t inside = size <= start ? 0 : (size - start + dilation - 1) / dilation;
  return {start, first, inside < kernel ? inside : kernel};
}

struct AvgPoolWindows {
  const PoolShape& shape;
  const AvgPoolArgs& args;
  Window rows(int64_t y) const {
    return avg_window(y, shape.h, shape.kernel_h, shape.stride_h, shape.pad_top, args.pad_bottom);
  }
  Window columns(int64_t x) const {
    return avg_window(x, shape.w, shape.kernel_w, shape.stride_w, shape.pad_left, args.pad_right);
  }
};

struct AdaptiveWindows {
  const PoolShape& shape;
  Window rows(int64_t y) const { return adaptive_window(y, shape.h, shape.oh); }
  Window columns(int64_t x) const { return adaptive_window(x, shape.w, shape.ow); }
};

/// What the integer sum of a window is multiplied by.
inline float avg_multiplier(const AvgPoolArgs& args, const Window& rows, const Window& columns) {
  int64_t count = (rows.end - rows.begin) * (columns.end - columns.begin);
  if (args.count_include_pad) count = rows.counted * columns.counted;
  if (args.divisor != 0) count = args.divisor;
  return args.scale_ratio / static_cast<float>(count);
}

}  // namespace
}  // namespace ptqx::kernels
