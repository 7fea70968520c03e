#pragma once

// Operations on codes that need no neighbours. Lengths are in elements; outputs may not overlap inputs.

#include <span>

#include "kernels/dispatch.h"
#include "kernels/types.h"

namespace ptqx::kernels {

/// How the result of add and mul is finished.
struct PointwiseTail {
  ActivationArgs activation;  // kPrelu has one slope here, not one per channel
  int32_t output_zero_point;
  int32_t qmin;
  int32_t qmax;
};

/// t = float32(a - a_zero_point) * a_multiplier + float32(b - b_zero_point) * b_multiplier, in that
/// order, with multiplier = operand scale / output scale; then activation, rounding and clamp.
using AddU8Fn = void(const uint8_t* a, int32_t a_zero_point, float a_multiplier, const uint8_t* b,
                     int32_t b_zero_point, float b_multiplier, int64_t n, const PointwiseTail& tail,
                     uint8_t* y);
AddU8Fn add_u8;
std::span<const Row<AddU8Fn>> add_u8_rows();

/// The same without floats: t = (a - a_zero_point) * a_multiplier + (b - b_zero_point) * b_multiplier, then
/// clamp(round_half_even(t / 2^shift) + output_zero_point, qmin, qmax).
struct AddFixedPointArgs {
  int32_t a_zero_point, a_multiplier, b_zero_point, b_multiplier;
  int32_t shift;  // 0 to kMostPlaces
  int32_t output_zero_point, qmin, qmax;
};
using AddFixedPointU8Fn = void(const uint8_t* a, const uint8_t* b, int64_t n, const AddFixedPointArgs& args,
                               uint8_t* y);
AddFixedPointU8Fn add_fixed_point_u8;
std::span<const Row<AddFixedPointU8Fn>> add_fixed_point_u8_rows();

/// t = float32((a - a_zero_point) * (b - b_zero_point)) * multiplier, multiplier = (s_a * s_b) / s_y.
using MulU8Fn = void(const uint8_t* a, int32_t a_zero_point, const uint8_t* b, int32_t b_zero_point,
                     float multiplier, int64_t n, const PointwiseTail& tail, uint8_t* y);
MulU8Fn mul_u8;
std::span<const Row<MulU8Fn>> mul_u8_rows();

/// One row of channels against every pixel: a [pixels][c], b [c] (squeeze-and-excitation).
void mul_u8_channels(const uint8_t* a, int32_t a_zero_point, const uint8_t* b, int32_t b_zero_point,
                     float multiplier, int64_t pixels, int64_t c, const PointwiseTail& tail, uint8_t* y);

/// y[i] = table[x[i]].
using LookupU8Fn = void(const uint8_t* x, int64_t n, const uint8_t table[256], uint8_t* y);
LookupU8Fn lookup_u8;
std::span<const Row<LookupU8Fn>> lookup_u8_rows();

/// y[i] = x[i] ^ 0x80: int8 codes seen as uint8 ones with zero_point + 128, and back.
using FlipSignU8Fn = void(const uint8_t* x, int64_t n, uint8_t* y);
FlipSignU8Fn flip_sign_u8;
std::span<const Row<FlipSignU8Fn>> flip_sign_u8_rows();

}  // namespace ptqx::kernels
