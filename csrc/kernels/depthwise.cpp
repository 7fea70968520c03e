#include "kernels/depthwise.h"

namespace ptqx::kernels {

std::span<const Row<DepthwiseFn>> depthwise_u8s8_rows() {
  static constexpr Row<DepthwiseFn> kRows[] = {
      {"depthwise_u8s8_scalar", Isa::kScalar, depthwise_u8s8_scalar},
      {"depthwise_u8s8_32_avx2", Isa::kAvx2, depthwise_u8s8_avx2},
      {"depthwise_u8s8_64_avx512vnni", Isa::kAvx512Vnni, depthwise_u8s8_avx512vnni},
  };
  return kRows;
}

}  // namespace ptqx::kernels
