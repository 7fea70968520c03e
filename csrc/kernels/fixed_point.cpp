#include "kernels/fixed_point.h"

namespace ptqx::kernels {

FixedPointFn fixed_point_scalar, fixed_point_avx2, fixed_point_avx512vnni;

std::span<const Row<FixedPointFn>> fixed_point_rows() {
  static constexpr Row<FixedPointFn> kRows[] = {
      {"fixed_point_scalar", Isa::kScalar, fixed_point_scalar},
      {"fixed_point_avx2", Isa::kAvx2, fixed_point_avx2},
      {"fixed_point_avx512vnni", Isa::kAvx512Vnni, fixed_point_avx512vnni},
  };
  return kRows;
}

}  // namespace ptqx::kernels
