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

}  // namespace ptqx::kernels
