#include "kernels/conv_tail.h"

namespace ptqx::kernels {

std::span<const Row<ConvTailFn>> conv_tail_rows() {
  static constexpr Row<ConvTailFn> kRows[] = {
      {"conv_tail_scalar", Isa::kScalar, conv_tail_scalar},
      {"conv_tail_avx2", Isa::kAvx2, conv_tail_avx2},
      {"conv_tail_avx512vnni", Isa::kAvx512Vnni, conv_tail_avx512vnni},
  };
  return kRows;
}

}  // namespace ptqx::kernels
