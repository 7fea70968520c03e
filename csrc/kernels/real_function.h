#pragma once

// Functions of real values that no table of codes can hold, in float64 and rounded to float32 once. The
// results are the same bits on every ISA.

#include <cstdint>
#include <span>

#include "kernels/dispatch.h"

namespace ptqx::kernels {

/// With e = e^-|x| by exp.h:
///   sigmoid   1 / (1 + e), times e for x < 0
///   silu      x * sigmoid(x)
///   tanh      (1 - e^2) / (1 + e^2) with the sign of x; below 2^-12, x - x^3 / 3
///   gelu      x * Phi(x), and Phi(-|x|) = e^(-z^2) p(t) / (2 + 4 z), z = |x| / sqrt(2),
///             t = (z - 3.75) / (z + 3.75), p a polynomial (the form of Shepherd and Laframboise, 1981)
///   gelu_tanh x * sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3))
///   square    x * x
/// The others are as they are called, with one number.
enum class RealFunction : uint8_t {
  kSigmoid,
  kSilu,
  kTanh,
  kGelu,
  kGeluTanh,
  kSquare,
  kAdd,
  kMultiply,
  kSubtractFrom,
  kDivide
};

using RealFunctionFn = void(RealFunction function, double number, const float* x, int64_t count, float* y);
std::span<const Row<RealFunctionFn>> real_function_rows();

/// y may be x.
void real_function_f32(RealFunction function, double number, const float* x, int64_t count, float* y);

}  // namespace ptqx::kernels
