#include "kernels/tile_gemm.h"

namespace ptqx::kernels {

std::span<const Row<TileGemmFn>> tile_gemm_u8s8_rows() {
  static constexpr Row<TileGemmFn> kRows[] = {
      {"tile_gemm_u8s8_scalar", Isa::kScalar, tile_gemm_u8s8_scalar},
      {"tile_gemm_u8s8_32x32_amxint8", Isa::kAmxInt8, tile_gemm_u8s8_amxint8},
  };
  return kRows;
}

std::span<const Row<GatherFn>> gather_rows() {
  static constexpr Row<GatherFn> kRows[] = {
      {"gather_scalar", Isa::kScalar, gather_scalar},
      {"gather_avx512vnni", Isa::kAvx512Vnni, gather_avx512vnni},
  };
  return kRows;
}

std::span<const Row<UnpackPanelFn>> unpack_panel_s4_rows() {
  static constexpr Row<UnpackPanelFn> kRows[] = {
      {"unpack_panel_s4_scalar", Isa::kScalar, unpack_panel_s4_scalar},
      {"unpack_panel_s4_avx512vnni", Isa::kAvx512Vnni, unpack_panel_s4_avx512vnni},
  };
  return kRows;
}

}  // namespace ptqx::kernels
