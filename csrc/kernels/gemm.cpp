#include "kernels/gemm.h"

namespace ptqx::kernels {

std::span<const Row<GemmFn>> gemm_u8s8_rows() {
  static constexpr Row<GemmFn> kRows[] = {
      {"gemm_u8s8_scalar", Isa::kScalar, gemm_u8s8_scalar},
      {"gemm_u8s8_4x16_avx2", Isa::kAvx2, gemm_u8s8_avx2},
      {"gemm_u8s8_6x16_avxvnni", Isa::kAvxVnni, gemm_u8s8_avxvnni},
      {"gemm_u8s8_6x64_avx512vnni", Isa::kAvx512Vnni, gemm_u8s8_avx512vnni},
  };
  return kRows;
}

std::span<const Row<GemmFn>> gemm_u8s8_groups_rows() {
  static constexpr Row<GemmFn> kRows[] = {
      {"gemm_u8s8_groups_scalar", Isa::kScalar, gemm_u8s8_groups_scalar},
      {"gemm_u8s8_groups_24x16_avx512vnni", Isa::kAvx512Vnni, gemm_u8s8_groups_avx512vnni},
  };
  return kRows;
}

std::span<const Row<GemmFn>> gemm_u8s4_rows() {
  static constexpr Row<GemmFn> kRows[] = {
      {"gemm_u8s4_scalar", Isa::kScalar, gemm_u8s4_scalar},
      {"gemm_u8s4_4x16_avx2", Isa::kAvx2, gemm_u8s4_avx2},
      {"gemm_u8s4_6x16_avxvnni", Isa::kAvxVnni, gemm_u8s4_avxvnni},
      {"gemm_u8s4_6x64_avx512vnni", Isa::kAvx512Vnni, gemm_u8s4_avx512vnni},
  };
  return kRows;
}

std::span<const Row<GemmFn>> gemm_binary_rows() {
  static constexpr Row<GemmFn> kRows[] = {
      {"gemm_binary_scalar", Isa::kScalar, gemm_binary_scalar},
      {"gemm_binary_4x16_avx2", Isa::kAvx2, gemm_binary_avx2},
      {"gemm_binary_6x64_avx512vnni", Isa::kAvx512Vnni, gemm_binary_avx512vnni},
      {"gemm_binary_6x64_avx512vpopcntdq", Isa::kAvx512Vpopcntdq, gemm_binary_avx512vpopcntdq},
  };
  return kRows;
}

std::span<const Row<GemmFn>> gemm_s16s16_rows() {
  static constexpr Row<GemmFn> kRows[] = {
      {"gemm_s16s16_scalar", Isa::kScalar, gemm_s16s16_scalar},
      {"gemm_s16s16_6x16_avx2", Isa::kAvx2, gemm_s16s16_avx2},
      {"gemm_s16s16_6x16_avxvnni", Isa::kAvxVnni, gemm_s16s16_avxvnni},
      {"gemm_s16s16_6x64_avx512vnni", Isa::kAvx512Vnni, gemm_s16s16_avx512vnni},
  };
  return kRows;
}

int64_t gemm_panel_width(Isa isa, int64_t out_channels) {
  if (isa < Isa::kAvx512Vnni) return 16;
  // Cost of a channel in a panel, filled or not: narrow panels need more loads of the input.
  struct Width {
    int64_t nr;
    double cost;
  };
  constexpr Width kWidths[] = {{64, 1.0}, {48, 1.02}, {32, 1.06}, {16, 1.4}};
  int64_t best = 0;
  double best_cost = 0.0;
  for (const Width& width : kWidths) {
    const int64_t padded = (out_channels + width.nr - 1) / width.nr * width.nr;
    const double cost = static_cast<double>(padded) * width.cost;
    if (best == 0 || cost < best_cost) {
      best = width.nr;
      best_cost = cost;
    }
  }
  return best;
}

}  // namespace ptqx::kernels
