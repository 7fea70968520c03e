#include "kernels/dot.h"

namespace ptqx::kernels {

DotS16Fn dot_s16_scalar, dot_s16_avx2;

std::span<const Row<DotS16Fn>> dot_s16_rows() {
  static constexpr Row<DotS16Fn> kRows[] = {
      {"dot_s16_scalar", Isa::kScalar, dot_s16_scalar},
      {"dot_s16_avx2", Isa::kAvx2, dot_s16_avx2},
  };
  return kRows;
}

int64_t dot_s16(const int16_t* x, const int16_t* w, int64_t n) {
  return best_row(dot_s16_rows()).function(x, w, n);
}

}  // namespace ptqx::kernels
