#include "kernels/softmax.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/arith.h"
#include "kernels/exp.h"

namespace ptqx::kernels {
namespace {

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
    for (int64_t i = 0; i < classes; ++i) lanes[i % 16] += exp_of_negative<double, uint64_t>(x[i] - largest);
    const double sum = sum_lanes(lanes);
    const double log_sum = log ? log_of_large(sum) : 0.0;
    for (int64_t i = 0; i < classes; ++i) {
      const double shifted = x[i] - largest;
      y[i] = static_cast<float>(log ? shifted - log_sum : exp_of_negative<double, uint64_t>(shifted) / sum);
    }
  }
}

}  // namespace ptqx::kernels
