#include "kernels/quantize.h"

namespace ptqx::kernels {

QuantizeU8Fn quantize_u8_scalar, quantize_u8_avx2, quantize_u8_avx512vnni;

std::span<const Row<QuantizeU8Fn>> quantize_u8_rows() {
  static constexpr Row<QuantizeU8Fn> kRows[] = {
      {"quantize_u8_scalar", Isa::kScalar, quantize_u8_scalar},
      {"quantize_u8_avx2", Isa::kAvx2, quantize_u8_avx2},
      {"quantize_u8_avx512vnni", Isa::kAvx512Vnni, quantize_u8_avx512vnni},
  };
  return kRows;
}

void quantize_u8(const float* x, Blocks blocks, const float* scale, const int32_t* zero_point, int32_t qmin,
                 int32_t qmax, uint8_t* y) {
  best_row(quantize_u8_rows()).function(x, blocks, scale, zero_point, qmin, qmax, y);
}

QuantizeS8Fn quantize_s8_scalar, quantize_s8_avx2, quantize_s8_avx512vnni;

std::span<const Row<QuantizeS8Fn>> quantize_s8_rows() {
  static constexpr Row<QuantizeS8Fn> kRows[] = {
      {"quantize_s8_scalar", Isa::kScalar, quantize_s8_scalar},
      {"quantize_s8_avx2", Isa::kAvx2, quantize_s8_avx2},
      {"quantize_s8_avx512vnni", Isa::kAvx512Vnni, quantize_s8_avx512vnni},
  };
  return kRows;
}

void quantize_s8(const float* x, Blocks blocks, const float* scale, const int32_t* zero_point, int32_t qmin,
                 int32_t qmax, int8_t* y) {
  best_row(quantize_s8_rows()).function(x, blocks, scale, zero_point, qmin, qmax, y);
}

DequantizeU8Fn dequantize_u8_scalar, dequantize_u8_avx2, dequantize_u8_avx512vnni;

std::span<const Row<DequantizeU8Fn>> dequantize_u8_rows() {
  static constexpr Row<DequantizeU8Fn> kRows[] = {
      {"dequantize_u8_scalar", Isa::kScalar, dequantize_u8_scalar},
      {"dequantize_u8_avx2", Isa::kAvx2, dequantize_u8_avx2},
      {"dequantize_u8_avx512vnni", Isa::kAvx512Vnni, dequantize_u8_avx512vnni},
  };
  return kRows;
}

void dequantize_u8(const uint8_t* x, Blocks blocks, const float* scale, const int32_t* zero_point, float* y) {
  best_row(dequantize_u8_rows()).function(x, blocks, scale, zero_point, y);
}

DequantizeS8Fn dequantize_s8_scalar, dequantize_s8_avx2, dequantize_s8_avx512vnni;

std::span<const Row<DequantizeS8Fn>> dequantize_s8_rows() {
  static constexpr Row<DequantizeS8Fn> kRows[] = {
      {"dequantize_s8_scalar", Isa::kScalar, dequantize_s8_scalar},
      {"dequantize_s8_avx2", Isa::kAvx2, dequantize_s8_avx2},
      {"dequantize_s8_avx512vnni", Isa::kAvx512Vnni, dequantize_s8_avx512vnni},
  };
  return kRows;
}

void dequantize_s8(const int8_t* x, Blocks blocks, const float* scale, const int32_t* zero_point, float* y) {
  best_row(dequantize_s8_rows()).function(x, blocks, scale, zero_point, y);
}

DequantizeS32Fn dequantize_s32_scalar, dequantize_s32_avx2, dequantize_s32_avx512vnni;

std::span<const Row<DequantizeS32Fn>> dequantize_s32_rows() {
  static constexpr Row<DequantizeS32Fn> kRows[] = {
      {"dequantize_s32_scalar", Isa::kScalar, dequantize_s32_scalar},
      {"dequantize_s32_avx2", Isa::kAvx2, dequantize_s32_avx2},
      {"dequantize_s32_avx512vnni", Isa::kAvx512Vnni, dequantize_s32_avx512vnni},
  };
  return kRows;
}

void dequantize_s32(const int32_t* x, Blocks blocks, const float* scale, const int32_t* zero_point,
                    float* y) {
  best_row(dequantize_s32_rows()).function(x, blocks, scale, zero_point, y);
}

QuantizeU8NchwToNhwcFn quantize_u8_nchw_to_nhwc_scalar, quantize_u8_nchw_to_nhwc_avx2,
    quantize_u8_nchw_to_nhwc_avx512vnni;

std::span<const Row<QuantizeU8NchwToNhwcFn>> quantize_u8_nchw_to_nhwc_rows() {
  static constexpr Row<QuantizeU8NchwToNhwcFn> kRows[] = {
      {"quantize_u8_nchw_to_nhwc_scalar", Isa::kScalar, quantize_u8_nchw_to_nhwc_scalar},
      {"quantize_u8_nchw_to_nhwc_avx2", Isa::kAvx2, quantize_u8_nchw_to_nhwc_avx2},
      {"quantize_u8_nchw_to_nhwc_avx512vnni", Isa::kAvx512Vnni, quantize_u8_nchw_to_nhwc_avx512vnni},
  };
  return kRows;
}

void quantize_u8_nchw_to_nhwc(const float* x, int64_t c, int64_t plane, int64_t pixels, float scale,
                              int32_t zero_point, int32_t qmin, int32_t qmax, uint8_t* y) {
  best_row(quantize_u8_nchw_to_nhwc_rows()).function(x, c, plane, pixels, scale, zero_point, qmin, qmax, y);
}

}  // namespace ptqx::kernels
