#pragma once

// Bilinear interpolation of one NHWC image of codes or of real values. The results are the same bits on
// every ISA.

#include <cstdint>
#include <span>

#include "kernels/dispatch.h"

namespace ptqx::kernels {

/// Between which rows (or columns) of the input one of the output lies, and the weight of each.
struct BilinearTap {
  int64_t first, second;
  float first_weight, second_weight;
};

/// Of an axis of `in` elements that becomes one of `out`: its places `begin` to `end`, as
/// torch.nn.functional.interpolate has them:
///   at = align_corners ? o * (in - 1) / (out - 1), 0 if out == 1
///                      : max((o + 0.5) * in / out - 0.5, 0)              (float64)
///   first = floor(at), second = min(first + 1, in - 1)
///   second_weight = float32(at - first), first_weight = 1 - second_weight
void bilinear_taps(int64_t in, int64_t out, bool align_corners, int64_t begin, int64_t end,
                   BilinearTap* taps);

struct BilinearArgs {
  int64_t c, w;                // of the input
  int64_t oh, ow;              // of the output, or of a band of its rows
  const BilinearTap* rows;     // [oh]
  const BilinearTap* columns;  // [ow]
  int32_t zero_point = 0;      // of codes
};

/// Floats of scratch memory that a kernel needs.
inline int64_t bilinear_scratch(const BilinearArgs& args) { return 2 * args.ow * args.c; }

/// Of two rows and two columns each, with q codes minus the zero point:
///   v = (q00 * wx0 + q01 * wx1) * wy0 + (q10 * wx0 + q11 * wx1) * wy1    (float32, nine roundings)
///   y = clamp(round_half_even(v) + zero_point, 0, 255)
using UpsampleBilinear2dU8Fn = void(const uint8_t* x, const BilinearArgs& args, float* scratch, uint8_t* y);
UpsampleBilinear2dU8Fn upsample_bilinear2d_u8;
std::span<const Row<UpsampleBilinear2dU8Fn>> upsample_bilinear2d_u8_rows();

/// The same of real values, without rounding to codes.
using UpsampleBilinear2dF32Fn = void(const float* x, const BilinearArgs& args, float* scratch, float* y);
UpsampleBilinear2dF32Fn upsample_bilinear2d_f32;
std::span<const Row<UpsampleBilinear2dF32Fn>> upsample_bilinear2d_f32_rows();

}  // namespace ptqx::kernels
