#include "kernels/softmax.h"

#include "kernels/softmax_vectors.h"

namespace ptqx::kernels {

double exp_sum_avx512vnni(const float* x, int64_t n, double largest) {
  return ExpVectors<64>::sum(x, n, largest);
}

void softmax_row_avx512vnni(const float* x, int64_t n, double largest, float* y) {
  ExpVectors<64>::softmax(x, n, largest, y);
}

}  // namespace ptqx::kernels
