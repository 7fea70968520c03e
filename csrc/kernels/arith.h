#pragma once

// The one written definition of ptqx's numbers. The *_ref.cpp kernels call these functions; every
// other kernel must give the same bits. Floating-point contraction is off in all of them.

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/types.h"

namespace ptqx::kernels {

/// Half to even, as torch.round and ONNX; the default rounding mode of the processor is assumed.
inline float round_half_even(float value) { return std::nearbyintf(value); }

/// clamp(round_half_even(t) + zero_point, qmin, qmax) for a t that may exceed int32.
/// The clamp comes first, on bounds that are whole numbers, so that it never changes the result.
/// A NaN becomes zero_point.
inline int32_t round_and_clamp(float t, int32_t zero_point, int32_t qmin, int32_t qmax) {
  if (std::isnan(t)) return std::clamp(zero_point, qmin, qmax);
  const float low = static_cast<float>(qmin - zero_point);
  const float high = static_cast<float>(qmax - zero_point);
  return static_cast<int32_t>(round_half_even(std::min(std::max(t, low), high))) + zero_point;
}

/// ONNX QuantizeLinear: the real value is divided by the scale, not multiplied by its inverse.
inline int32_t quantize(float real, float scale, int32_t zero_point, int32_t qmin, int32_t qmax) {
  return round_and_clamp(real / scale, zero_point, qmin, qmax);
}

/// The difference is exact for every int32 q and is rounded to float32 once.
inline float dequantize(int32_t q, float scale, int32_t zero_point) {
  return static_cast<float>(static_cast<int64_t>(q) - zero_point) * scale;
}

/// Quantized and dequantized at once; a NaN stays what it is.
inline float fake_quantize(float real, float scale, int32_t zero_point, int32_t qmin, int32_t qmax) {
  if (std::isnan(real)) return real;
  return dequantize(quantize(real, scale, zero_point, qmin, qmax), scale, zero_point);
}

/// The one order in which 16 lanes are added: a binary tree (i with i + 8, then 4, 2, 1) in float64.
template <class Real>
double sum_lanes(const Real (&lanes)[16]) {
  double tree[16];
  for (int i = 0; i < 16; ++i) tree[i] = static_cast<double>(lanes[i]);
  for (int width = 8; width >= 1; width /= 2) {
    for (int i = 0; i < width; ++i) tree[i] += tree[i + width];
  }
  return tree[0];
}

/// ONNX DynamicQuantizeLinear: the range is extended to contain 0; a range of zeros only gives scale 1.
inline QParams dynamic_qparams(float min, float max, int32_t qmin, int32_t qmax) {
  const float low = std::min(min, 0.0F);
  const float high = std::max(max, 0.0F);
  if (low == high) return {1.0F, std::clamp(0, qmin, qmax)};
  const float scale = std::clamp((high - low) / static_cast<float>(qmax - qmin), 0x1p-64F, 0x1p127F);
  return {scale, round_and_clamp(static_cast<float>(qmin) - low / scale, 0, qmin, qmax)};
}

constexpr int32_t kMostPlaces = 62;

/// round(sum / 2^places), half to even, by shifts alone; places in 0..kMostPlaces.
inline int64_t shift_half_to_even(int64_t sum, int32_t places) {
  const int64_t floor = sum >> places;
  const uint64_t unit = uint64_t{1} << places;
  const uint64_t twice = 2 * (static_cast<uint64_t>(sum) & (unit - 1));
  const bool up = twice > unit || (twice == unit && (floor & 1) != 0);
  return floor + static_cast<int64_t>(up);
}

/// clamp(round(sum / 2^places) + zero_point, low, high).
inline int64_t requantize_fixed_point(int64_t sum, int32_t places, int64_t zero_point, int64_t low,
                                      int64_t high) {
  // The zero point goes to the bounds: not every 64 bits have room for it.
  return std::clamp(shift_half_to_even(sum, places), low - zero_point, high - zero_point) + zero_point;
}

/// m = (s_x * s_w) / s_y, float32, left to right.
inline float requantize_multiplier(float input_scale, float weight_scale, float output_scale) {
  const float product = input_scale * weight_scale;
  return product / output_scale;
}

/// Of a Tail without floats. Every product of two numbers of 32 bits fits 64.
inline int64_t requantize_fixed_point(int32_t acc, const Tail& tail, int64_t channel) {
  return requantize_fixed_point(int64_t{acc} * tail.fixed_multiplier[channel], tail.shift[channel],
                                tail.output_zero_point, tail.qmin, tail.qmax);
}

inline float activate(float t, const ActivationArgs& args, int64_t channel) {
  switch (args.kind) {
    case Activation::kNone:
      return t;
    case Activation::kClip:
      return std::min(std::max(t, args.low), args.high);
    case Activation::kLeakyRelu:
      return t < 0.0F ? t * args.slope : t;
    case Activation::kPrelu:
      return t < 0.0F ? t * args.slopes[channel] : t;
    case Activation::kHardsigmoid: {
      const float scaled = t * args.slope;
      const float shifted = scaled + args.offset;
      return std::min(std::max(shifted, 0.0F), args.high);
    }
    case Activation::kHardswish: {
      const float scaled = t * args.slope;
      const float shifted = scaled + 0.5F;
      return t * std::min(std::max(shifted, 0.0F), 1.0F);
    }
  }
  return t;
}

/// The value a Tail gives before its rounding. `index` is the element's place in the residual.
inline float tail_value(int32_t acc, const Tail& tail, int64_t channel, int64_t index) {
  if (tail.bias != nullptr) acc += tail.bias[channel];
  float t = static_cast<float>(acc) * tail.multiplier[channel];
  if (tail.bias_f32 != nullptr) t = t + tail.bias_f32[channel];
  if (tail.residual != nullptr) {
    const int32_t q = static_cast<int32_t>(tail.residual[index]) - tail.residual_zero_point;
    const float r = static_cast<float>(q) * tail.residual_multiplier;
    t = t + r;
  }
  return activate(t, tail.activation, channel);
}

}  // namespace ptqx::kernels
