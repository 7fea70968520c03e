#pragma once

// Layer normalization of the channels of pixels (Ba, Kiros, Hinton, arXiv:1607.06450). The results are the
// same bits on every ISA.

#include <cstdint>
#include <span>

#include "kernels/dispatch.h"

namespace ptqx::kernels {

/// One pixel's channels to real values, and these to codes:
///   t = ((x - mean) * inverse_deviation) * weight + bias    (float32, four roundings)
///   y = clamp(round_half_even(t / scale) + zero_point, qmin, qmax)
struct NormalizeArgs {
  float mean, inverse_deviation;
  const float* weight;  // [channels]
  const float* bias;    // [channels]
  float scale;
  int32_t zero_point, qmin, qmax;
};
using NormalizeU8Fn = void(const float* x, int64_t channels, const NormalizeArgs& args, uint8_t* y);
std::span<const Row<NormalizeU8Fn>> normalize_u8_rows();

struct LayerNormArgs {
  int64_t channels;
  const float* weight;  // [channels]
  const float* bias;    // [channels]
  double eps;           // > 0
};

/// Of each of `pixels` pixels, [pixels][channels] in memory, to codes:
///   mean = sum / channels, variance = max(sum of squares / channels - mean^2, 0)    (float64; see moments)
///   inverse deviation = 1 / sqrt(variance + eps)                                    (float64)
/// Mean and inverse deviation are then rounded to float32. Returns how many x are not finite; y is of no use
/// then.
int64_t layer_norm_u8(const float* x, int64_t pixels, const LayerNormArgs& args, QParams output, int32_t qmin,
                      int32_t qmax, uint8_t* y);

/// The same to real values.
int64_t layer_norm_f32(const float* x, int64_t pixels, const LayerNormArgs& args, float* y);

}  // namespace ptqx::kernels
