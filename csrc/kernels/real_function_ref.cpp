#include "kernels/real_function_formulas.h"

namespace ptqx::kernels {

void real_function_scalar(RealFunction function, double number, const float* x, int64_t count, float* y) {
  for (int64_t i = 0; i < count; ++i) {
    y[i] = static_cast<float>(value_of<double, uint64_t>(function, number, x[i]));
  }
}

}  // namespace ptqx::kernels
