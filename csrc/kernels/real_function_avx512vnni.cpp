#include "kernels/real_function_vectors.h"

namespace ptqx::kernels {

void real_function_avx512vnni(RealFunction function, double number, const float* x, int64_t count, float* y) {
  real_function_vectors<64>(function, number, x, count, y);
}

}  // namespace ptqx::kernels
