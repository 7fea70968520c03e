#include "kernels/softmax.h"

#include "kernels/softmax_vectors.h"

namespace ptqx::kernels {

double exp_sum_avx2(const float* x, int64_t n, double largest) { return ExpVectors<32>::sum(x, n, largest); }

void softmax_row_avx2(const float* x, int64_t n, double largest, float* y) {
  ExpVectors<32>::softmax(x, n, largest, y);
}

}  // namespace ptqx::kernels
