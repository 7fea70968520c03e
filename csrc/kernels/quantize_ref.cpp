#include "kernels/quantize.h"

#include "kernels/arith.h"

namespace ptqx::kernels {
namespace {

template <class From, class To, class Op>
void for_each(const From* x, const Blocks& blocks, To* y, Op op) {
  int64_t i = 0;
  for (int64_t outer = 0; outer < blocks.outer; ++outer) {
    for (int64_t channel = 0; channel < blocks.channels; ++channel) {
      for (int64_t inner = 0; inner < blocks.inner; ++inner, ++i) y[i] = static_cast<To>(op(x[i], channel));
    }
  }
}

template <class Code>
void quantize_blocks(const float* x, const Blocks& blocks, const float* scale, const int32_t* zero_point,
                     int32_t qmin, int32_t qmax, Code* y) {
  for_each(x, blocks, y, [&](float value, int64_t channel) {
    return quantize(value, scale[channel], zero_point[channel], qmin, qmax);
  });
}

template <class Code>
void dequantize_blocks(const Code* x, const Blocks& blocks, const float* scale, const int32_t* zero_point,
                       float* y) {
  for_each(x, blocks, y,
           [&](Code code, int64_t channel) { return dequantize(code, scale[channel], zero_point[channel]); });
}

}  // namespace

void quantize_u8_scalar(const float* x, Blocks blocks, const float* scale, const int32_t* zero_point,
                        int32_t qmin, int32_t qmax, uint8_t* y) {
  quantize_blocks(x, blocks, scale, zero_point, qmin, qmax, y);
}

void quantize_s8_scalar(const float* x, Blocks blocks, const float* scale, const int32_t* zero_point,
                        int32_t qmin, int32_t qmax, int8_t* y) {
  quantize_blocks(x, blocks, scale, zero_point, qmin, qmax, y);
}

void dequantize_u8_scalar(const uint8_t* x, Blocks blocks, const float* scale, const int32_t* zero_point,
                          float* y) {
  dequantize_blocks(x, blocks, scale, zero_point, y);
}

void dequantize_s8_scalar(const int8_t* x, Blocks blocks, const float* scale, const int32_t* zero_point,
                          float* y) {
  dequantize_blocks(x, blocks, scale, zero_point, y);
}

void dequantize_s32_scalar(const int32_t* x, Blocks blocks, const float* scale, const int32_t* zero_point,
                           float* y) {
  dequantize_blocks(x, blocks, scale, zero_point, y);
}

void quantize_u8_nchw_to_nhwc_scalar(const float* x, int64_t c, int64_t plane, int64_t pixels, float scale,
                                     int32_t zero_point, int32_t qmin, int32_t qmax, uint8_t* y) {
  for (int64_t channel = 0; channel < c; ++channel) {
    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
      const int32_t code = quantize(x[channel * plane + pixel], scale, zero_point, qmin, qmax);
      y[pixel * c + channel] = static_cast<uint8_t>(code);
    }
  }
}

}  // namespace ptqx::kernels
