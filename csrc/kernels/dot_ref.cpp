#include "kernels/dot.h"

namespace ptqx::kernels {

DotS16Fn dot_s16_scalar;

int64_t dot_s16_scalar(const int16_t* x, const int16_t* w, int64_t n) {
  int64_t sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += int64_t{x[i]} * w[i];
  return sum;
}

}  // namespace ptqx::kernels
