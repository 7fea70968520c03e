#include "kernels/real_function_vectors.h"

namespace ptqx::kernels {

void real_function_avx2(RealFunction function, double number, const float* x, int64_t count, float* y) {
  real_function_vectors<32>(function, number, x, count, y);
}

}  // namespace ptqx::kernels
