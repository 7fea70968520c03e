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

/// (1 + 2 z) e^(z^2) erfc(z) by t, within 3e-14 of it.
template <class Real>
inline Real scaled_erfc(Real t) {
  constexpr double kCoefficients[] = {
      1.2375126308378275,     -0.14024059858550444,    0.003585415485523275,    0.08227673848702269,
      -0.10880393014608769,   0.09230432122812039,     -0.05869339849540758,    0.028362276742910596,
      -0.009746580498740973,  0.0017556295759281106,   0.00029371884657765324,  -0.000290166471091793,
      5.163185789476895e-05,  2.2410291482750057e-05,  -1.1407905388891046e-05, -1.0086004108981255e-06,
      1.7029183867088038e-06, -2.7618899599327736e-08, -2.1755141905337236e-07, 8.49820015093241e-09,
      1.8198592830243115e-08,
  };
  Real series = Real{} + kCoefficients[20];
  for (int k = 19; k >= 0; --k) series = series * t + kCoefficients[k];
  return series;
}

template <class Real, class Bits>
inline Real gelu(Real x) {
  constexpr double kCenter = 3.75;
  const Real z = (x < 0.0 ? -x : x) * (1.0 / std::numbers::sqrt2);
  const Real far = z > 20.0 ? Real{} + 20.0 : z;  // Phi(-|x|) is 0 long before
  const Real scaled = scaled_erfc((far - kCenter) / (far + kCenter)) / (2.0 + 4.0 * far);
  const Real tail = exp_of_negative<Real, Bits>(-(far * far)) * scaled;
  return x * (x < 0.0 ? tail : 1.0 - tail);
}

template <class Real, class Bits>
inline Real gelu_tanh(Real x) {
  constexpr double kFactor = 1.5957691216057308;  // 2 sqrt(2 / pi)
  return x * sigmoid<Real, Bits>(kFactor * (x + 0.044715 * (x * x * x)));
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
    case RealFunction::kGelu:
      return gelu<Real, Bits>(x);
    case RealFunction::kGeluTanh:
      return gelu_tanh<Real, Bits>(x);
    case RealFunction::kSquare:
      return x * x;
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
