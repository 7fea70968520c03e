#pragma once

// Pooling of one NHWC image of codes. Rows and columns of a window that lie outside the image are
// left out, so no padding is ever written. Windows may not lie wholly outside the image.

#include <span>

#include "kernels/dispatch.h"
#include "kernels/types.h"

namespace ptqx::kernels {

struct PoolShape {
  int64_t c, h, w;  // input
  int64_t oh, ow;   // output
  int64_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
};

using MaxPool2dU8Fn = void(const uint8_t* x, const PoolShape& shape, uint8_t* y);
MaxPool2dU8Fn max_pool2d_u8;
std::span<const Row<MaxPool2dU8Fn>> max_pool2d_u8_rows();

/// t = float32(sum of (q - input_zero_point)) * (scale_ratio / count), scale_ratio = s_x / s_y, and the
/// division in float32; then rounding and clamp. `count` is the window clipped to the image, plus what
/// lies within `pad` of it when count_include_pad, or `divisor` when that is not 0.
/// Dilation is 1 and windows have at most 2^20 elements, so that the sums fit int32.
struct AvgPoolArgs {
  int32_t input_zero_point;
  float scale_ratio;
  int64_t pad_bottom, pad_right;  // what count_include_pad counts; the ceil_mode overhang never counts
  bool count_include_pad;
  int64_t divisor;
  int32_t output_zero_point, qmin, qmax;
};
using AvgPool2dU8Fn = void(const uint8_t* x, const PoolShape& shape, const AvgPoolArgs& args, uint8_t* y);
AvgPool2dU8Fn avg_pool2d_u8;
std::span<const Row<AvgPool2dU8Fn>> avg_pool2d_u8_rows();

/// Window of output row o: rows floor(o * h / oh) up to, not with, ceil((o + 1) * h / oh); columns alike
/// (torch.nn.AdaptiveAvgPool2d). Kernel, stride and padding of `shape` are not read.
AvgPool2dU8Fn adaptive_avg_pool2d_u8;
std::span<const Row<AvgPool2dU8Fn>> adaptive_avg_pool2d_u8_rows();

}  // namespace ptqx::kernels
