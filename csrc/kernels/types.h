#pragma once

#include <cstddef>
#include <cstdint>

namespace ptqx::kernels {

/// Instruction sets a kernel row may need, from the lowest to the highest preference.
enum class Isa : uint8_t { kScalar, kAvx2, kAvxVnni, kAvx512Vnni, kAvx512Vpopcntdq, kAmxInt8 };

/// Applied in float32 to t, the accumulator in units of the output scale, before the one rounding.
enum class Activation : uint8_t {
  kNone,
  kClip,         // min(max(t, low), high): ReLU, ReLU6, Hardtanh; infinite bounds allowed
  kLeakyRelu,    // t < 0 ? t * slope : t
  kPrelu,        // t < 0 ? t * slopes[channel] : t
  kHardsigmoid,  // clip(t * slope + offset, 0, high) with slope 1/6, offset 0.5 / scale, high 1 / scale
  kHardswish,    // t * clip(t * slope + 0.5, 0, 1) with slope scale / 6
};

/// Parameters of an Activation; which ones count is said beside the enumerators.
struct ActivationArgs {
  Activation kind = Activation::kNone;
  float low = 0.0F;
  float high = 0.0F;
  float slope = 0.0F;
  float offset = 0.0F;
  const float* slopes = nullptr;  // [channels]
};

/// What a finished accumulator becomes.
enum class Output : uint8_t {
  kS32,           // acc + bias
  kU8,            // requantized
  kF32,           // float32(acc + bias) * multiplier + bias_f32, then the activation
  kU8FixedPoint,  // requantized without floats
};

/// The fused end of a convolution or linear layer. All arrays are indexed by output channel.
///   acc += bias                                        (int32, exact; bias may be null)
///   t = float32(acc) * multiplier [+ bias_f32]         (two roundings; bias_f32 may be null)
///   t = t + float32(residual - residual_zero_point) * residual_multiplier   (if residual)
///   t = activation(t)
///   y = clamp(round_half_even(t) + output_zero_point, qmin, qmax)
/// Without floats, from the second line on:
///   y = clamp(round_half_even(acc * fixed_multiplier / 2^shift) + output_zero_point, qmin, qmax)
struct Tail {
  Output output = Output::kU8;
  const int32_t* bias = nullptr;
  const float* multiplier = nullptr;
  const float* bias_f32 = nullptr;
  const uint8_t* residual = nullptr;  // laid out like the output
  float residual_multiplier = 0.0F;
  int32_t residual_zero_point = 0;
  ActivationArgs activation;
  int32_t output_zero_point = 0;
  int32_t qmin = 0;
  int32_t qmax = 255;
  const int32_t* fixed_multiplier = nullptr;  // of kU8FixedPoint
  const int32_t* shift = nullptr;             // 0 to kMostPlaces
};

/// Affine quantization parameters of one tensor: real = scale * (q - zero_point).
struct QParams {
  float scale = 1.0F;
  int32_t zero_point = 0;
};

}  // namespace ptqx::kernels
