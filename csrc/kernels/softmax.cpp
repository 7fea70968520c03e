#include "kernels/softmax.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/arith.h"

namespace ptqx::kernels {
namespace {

// ln 2 in two parts, of which whole multiples of the first are exact.
constexpr double kLn2High = 6.93147180369123816490e-01;
constexpr double kLn2Low = 1.90821492927058770002e-10;

/// e^x of x <= 0, by e^x = 2^n e^r with |r| <= ln 2 / 2 and the series of e^r, whose rest is below 2^-57.
double exp_of_negative(double x) {
  constexpr double kNoFloat = -200.0;  // e^x and all that is made of it round to 0 in float32
  if (x < kNoFloat) return 0.0;
  const double n = std::nearbyint(x * std::numbers::log2e);
  const double r = (x - n * kLn2High) - n * kLn2Low;
  double series = 1.0;
  for (int k = 13; k >= 1; --k) series = series * r / k + 1.0;
  return std::ldexp(series, static_cast<int>(n));
}

/// ln x of x >= 1, by x = 2^n m with m near 1 and ln m = 2 artanh((m - 1) / (m + 1)).
double log_of_large(double x) {
  int n = 0;
  double m = std::frexp(x, &n);
  if (m < std::numbers::sqrt2 / 2) {
    m *= 2;
    --n;
  }
  const double f = (m - 1) / (m + 1), square = f * f;
  double series = 0.0;
  for (int k = 25; k >= 1; k -= 2) series = series * square + 1.0 / k;
  return n * kLn2High + (2 * f * series + n * kLn2Low);
}

}  // namespace

void softmax_f32(const float* x, int64_t rows, int64_t classes, bool log, float* y) {
  for (int64_t row = 0; row < rows; ++row, x += classes, y += classes) {
    const double largest = *std::max_element(x, x + classes);
    double lanes[16] = {};
    for (int64_t i = 0; i < classes; ++i) lanes[i % 16] += exp_of_negative(x[i] - largest);
    const double sum = sum_lanes(lanes);
    const double log_sum = log ? log_of_large(sum) : 0.0;
    for (int64_t i = 0; i < classes; ++i) {
      const double shifted = x[i] - largest;
      y[i] = static_cast<float>(log ? shifted - log_sum : exp_of_negative(shifted) / sum);
    }
  }
}

}  // namespace ptqx::kernels
