#pragma once

// Real numbers to codes and back. Tensors are seen as [outer][channels][inner], contiguous: per
// tensor is (1, 1, n), per output channel of OIHW weights (1, O, I*H*W), per channel of NHWC (n, C, 1).
// `scale` and `zero_point` have `channels` entries. Bounds are the caller's to check: scale > 0 and
// finite, qmin <= qmax within the code's type, |zero_point| <= 2^23. A NaN becomes zero_point.

#include <cstdint>
#include <span>

#include "kernels/dispatch.h"
#include "kernels/pack.h"

namespace ptqx::kernels {

struct Blocks {
  int64_t outer;
  int64_t channels;
  int64_t inner;
};

using QuantizeU8Fn = void(const float* x, Blocks blocks, const float* scale, const int32_t* zero_point,
                          int32_t qmin, int32_t qmax, uint8_t* y);
QuantizeU8Fn quantize_u8;
std::span<const Row<QuantizeU8Fn>> quantize_u8_rows();

using QuantizeS8Fn = void(const float* x, Blocks blocks, const float* scale, const int32_t* zero_point,
                          int32_t qmin, int32_t qmax, int8_t* y);
QuantizeS8Fn quantize_s8;
std::span<const Row<QuantizeS8Fn>> quantize_s8_rows();

using DequantizeU8Fn = void(const uint8_t* x, Blocks blocks, const float* scale, const int32_t* zero_point,
                            float* y);
DequantizeU8Fn dequantize_u8;
std::span<const Row<DequantizeU8Fn>> dequantize_u8_rows();

using DequantizeS8Fn = void(const int8_t* x, Blocks blocks, const float* scale, const int32_t* zero_point,
                            float* y);
DequantizeS8Fn dequantize_s8;
std::span<const Row<DequantizeS8Fn>> dequantize_s8_rows();

using DequantizeS32Fn = void(const int32_t* x, Blocks blocks, const float* scale, const int32_t* zero_point,
                             float* y);
DequantizeS32Fn dequantize_s32;
std::span<const Row<DequantizeS32Fn>> dequantize_s32_rows();

/// Planar to interleaved in the same pass: x [c] planes, `plane` floats from one to the next, of which
/// `pixels` are taken, -> y [pixels][c] codes.
using QuantizeU8NchwToNhwcFn = void(const float* x, int64_t c, int64_t plane, int64_t pixels, float scale,
                                    int32_t zero_point, int32_t qmin, int32_t qmax, uint8_t* y);
QuantizeU8NchwToNhwcFn quantize_u8_nchw_to_nhwc;
std::span<const Row<QuantizeU8NchwToNhwcFn>> quantize_u8_nchw_to_nhwc_rows();

}  // namespace ptqx::kernels
