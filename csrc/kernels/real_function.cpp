#include "kernels/real_function.h"

namespace ptqx::kernels {

RealFunctionFn real_function_scalar, real_function_avx2, real_function_avx512vnni;

std::span<const Row<RealFunctionFn>> real_function_rows() {
  static constexpr Row<RealFunctionFn> kRows[] = {
      {"real_function_scalar", Isa::kScalar, real_function_scalar},
      {"real_function_avx2", Isa::kAvx2, real_function_avx2},
      {"real_function_avx512vnni", Isa::kAvx512Vnni, real_function_avx512vnni},
  };
  return kRows;
}

void real_function_f32(RealFunction function, double number, const float* x, int64_t count, float* y) {
  best_row(real_function_rows()).function(function, number, x, count, y);
}

}  // namespace ptqx::kernels
