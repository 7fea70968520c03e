#pragma once

// Normalization of groups of channels over a whole image (Wu, He, arXiv:1803.08494); with a group for each
// channel, instance normalization (Ulyanov et al., arXiv:1607.08022). The results are the same bits on every
// ISA.

#include <cstdint>
#include <span>

#include "kernels/dispatch.h"

namespace ptqx::kernels {

/// Sums of `count` of the channels of an image [h][w][channels], and of their squares, in float64: of the
/// pixels of each row in turn, and of the rows' sums in turn.
using ChannelSumsFn = void(const float* x, int64_t h, int64_t w, int64_t channels, int64_t count,
                           double* sums, double* squares);
ChannelSumsFn channel_sums;
std::span<const Row<ChannelSumsFn>> channel_sums_rows();

struct GroupNormArgs {
  int64_t pixels, channels, groups;
  double eps;  // > 0
};

/// Of every channel's group, [channels], from what channel_sums gives:
///   mean = sum / count, variance = max(sum of squares / count - mean^2, 0)    (float64; channels in turn)
///   inverse deviation = 1 / sqrt(variance + eps)                              (float64)
/// both rounded to float32. Returns whether all values were finite.
bool group_statistics(const GroupNormArgs& args, const double* sums, const double* squares, float* mean,
                      float* inverse_deviation);

/// `pixels` pixels to real values, and these to codes:
///   t = ((x - mean) * inverse_deviation) * weight + bias    (float32, four roundings)
///   y = clamp(round_half_even(t / scale) + zero_point, qmin, qmax)
struct NormalizeChannelsArgs {
  int64_t channels;
  const float *mean, *inverse_deviation, *weight, *bias;  // [channels]
  float scale;
  int32_t zero_point, qmin, qmax;
};
using NormalizeChannelsU8Fn = void(const float* x, int64_t pixels, const NormalizeChannelsArgs& args,
                                   uint8_t* y);
NormalizeChannelsU8Fn normalize_channels_u8;
std::span<const Row<NormalizeChannelsU8Fn>> normalize_channels_u8_rows();

/// The same to real values.
void normalize_channels_f32(const float* x, int64_t pixels, const NormalizeChannelsArgs& args, float* y);

}  // namespace ptqx::kernels
