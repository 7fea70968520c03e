#include "kernels/arith.h"
#include "kernels/exp.h"
#include "kernels/softmax.h"

namespace ptqx::kernels {

double exp_sum_scalar(const float* x, int64_t n, double largest) {
  double lanes[16] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i % 16] += exp_of_negative<double, uint64_t>(x[i] - largest);
  return sum_lanes(lanes);
}

void softmax_row_scalar(const float* x, int64_t n, double largest, float* y) {
  const double sum = exp_sum_scalar(x, n, largest);
  for (int64_t i = 0; i < n; ++i) {
    y[i] = static_cast<float>(exp_of_negative<double, uint64_t>(x[i] - largest) / sum);
  }
}

}  // namespace ptqx::kernels
