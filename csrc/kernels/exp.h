#pragma once

// e^x in float64, written here because those of C libraries differ in their last bits.

#include <bit>
#include <cstdint>
#include <numbers>

namespace ptqx::kernels {

// ln 2 in two parts, of which whole multiples of the first are exact.
inline constexpr double kLn2High = 6.93147180369123816490e-01;
inline constexpr double kLn2Low = 1.90821492927058770002e-10;

/// e^x of x <= 0, by e^x = 2^n e^r with |r| <= ln 2 / 2 and the series of e^r up to r^13 / 13!, whose rest is
/// below 2^-57; 0 below -200, where all that is made of it rounds to 0 in float32. A NaN stays one. `Real` is
/// double or a vector of them, `Bits` as many uint64_t.
template <class Real, class Bits>
inline Real exp_of_negative(Real x) {
  constexpr double kLeast = -200.0;
  constexpr double kWhole = 0x1.8p52;  // added, it rounds half to even to a whole number in the last bits
  constexpr double kFactorials[] = {1.0,       1.0,        2.0,         6.0,         24.0,
                                    120.0,     720.0,      5040.0,      40320.0,     362880.0,
                                    3628800.0, 39916800.0, 479001600.0, 6227020800.0};
  const Real bounded = x < kLeast ? Real{} : x;
  const Real shifted = bounded * std::numbers::log2e + kWhole;
  const Real n = shifted - kWhole;
  const Real r = (bounded - n * kLn2High) - n * kLn2Low;
  Real series = Real{} + 1.0 / kFactorials[13];
  for (int k = 12; k >= 0; --k) series = series * r + 1.0 / kFactorials[k];
  const Bits power = (std::bit_cast<Bits>(shifted) + 1023) << 52;  // the bits of 2^n
  return x < kLeast ? Real{} : series * std::bit_cast<Real>(power);
}

}  // namespace ptqx::kernels
