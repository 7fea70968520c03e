#include "kernels/pointwise.h"

#include "kernels/arith.h"

namespace ptqx::kernels {
namespace {

uint8_t finish(float t, const PointwiseTail& tail) {
  const float activated = activate(t, tail.activation, 0);
  return static_cast<uint8_t>(round_and_clamp(activated, tail.output_zero_point, tail.qmin, tail.qmax));
}

}  // namespace

void add_u8_scalar(const uint8_t* a, int32_t a_zero_point, float a_multiplier, const uint8_t* b,
                   int32_t b_zero_point, float b_multiplier, int64_t n, const PointwiseTail& tail,
                   uint8_t* y) {
  for (int64_t i = 0; i < n; ++i) {
    const float a_term = static_cast<float>(a[i] - a_zero_point) * a_multiplier;
    const float b_term = static_cast<float>(b[i] - b_zero_point) * b_multiplier;
    y[i] = finish(a_term + b_term, tail);
  }
}

void add_fixed_point_u8_scalar(const uint8_t* a, const uint8_t* b, int64_t n, const AddFixedPointArgs& args,
                               uint8_t* y) {
  for (int64_t i = 0; i < n; ++i) {
    const int64_t sum = int64_t{a[i] - args.a_zero_point} * args.a_multiplier +
                        int64_t{b[i] - args.b_zero_point} * args.b_multiplier;
    y[i] = static_cast<uint8_t>(
        requantize_fixed_point(sum, args.shift, args.output_zero_point, args.qmin, args.qmax));
  }
}

void mul_u8_scalar(const uint8_t* a, int32_t a_zero_point, const uint8_t* b, int32_t b_zero_point,
                   float multiplier, int64_t n, const PointwiseTail& tail, uint8_t* y) {
  for (int64_t i = 0; i < n; ++i) {
    const int32_t product = (a[i] - a_zero_point) * (b[i] - b_zero_point);
    y[i] = finish(static_cast<float>(product) * multiplier, tail);
  }
}

void lookup_u8_scalar(const uint8_t* x, int64_t n, const uint8_t table[256], uint8_t* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = table[x[i]];
}

void flip_sign_u8_scalar(const uint8_t* x, int64_t n, uint8_t* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] ^ 0x80;
}

}  // namespace ptqx::kernels
