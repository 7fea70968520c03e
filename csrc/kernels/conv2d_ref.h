#pragma once

// The definition of an integer convolution, in straight loops. What tests compare everything else with.

#include "kernels/types.h"

namespace ptqx::kernels {

struct Conv2dRefShape {
  int64_t n, h, w, in_channels;
  int64_t oh, ow, out_channels;
  int64_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
  int64_t groups;
};

/// acc[n][y][x][oc] = sum over the taps that lie on the input, and over the group's input channels c, of
///     (input[n][y * stride_h - pad_top + r * dilation_h][...][c] - input_zero_points[n])
///         * (weight[oc][c][r][t] - weight_zero_points[oc])   modulo 2^32,
/// then the Tail, with sample_scale[n] * multiplier[oc] for its multiplier unless sample_scale is null.
/// With group_size > 0 the sum is cut into groups of that many input channels, multiplier is
/// [groups of input channels][oc], and t = sum of float32(acc_g) * multiplier_g in ascending order.
void conv2d_ref(const Conv2dRefShape& shape, const uint8_t* input, const int32_t* input_zero_points,
                const int8_t* weight, const int32_t* weight_zero_points, int64_t group_size, const Tail& tail,
                const float* sample_scale, void* output);

}  // namespace ptqx::kernels
