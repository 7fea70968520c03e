#pragma once

// The formulas of real_function.h, on double or vectors of them.

#include "kernels/exp.h"
#include "kernels/real_function.h"

namespace ptqx::kernels {
namespace {

template <class Real, class Bits>
inline Real sigmoid(Real x) {
  const Real e = exp_of_negative<Real, Bits>(x < 0.0 ? x : -x);
  const Real share = 1.0 / (1.0 + e);
  return x < 0.0 ? e * share : share;
}

template <class Real, class Bits>
inline Real tanh_of(Real x) {
  constexpr double kSmall = 0x1p-12;  // below, x^5 is no part of 53 bits
  const Real magnitude = x < 0.0 ? -x : x;
  const Real e = exp_of_negative<Real, Bits>(-2.0 * magnitude);
  const Real large = (1.0 - e) / (1.0 + e);
  const Real small = magnitude - magnitude * (magnitude * magnitude) * (1.0 / 3.0);
  const Real result = magnitude < kSmall ? small : large;
  return x < 0.0 ? -result : result;
}

template <class Real, class Bits>
inline Real value_of(RealFunction function, double number, Real x) {
  switch (function) {
    case RealFunction::kSigmoid:
      return sigmoid<Real, Bits>(x);
    case RealFunction::kSilu:
      return x * sigmoid<Real, Bits>(x);
    case RealFunction::kTanh:
      return tanh_of<Real, Bits>(x);
    case RealFunction::kAdd:
      return x + number;
    case RealFunction::kMultiply:
      return x * number;
    case RealFunction::kSubtractFrom:
      return number - x;
    case RealFunction::kDivide:
      return x / number;
  }
  return x;
}

}  // namespace
}  // namespace ptqx::kernels
