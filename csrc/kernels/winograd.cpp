#include "kernels/winograd.h"

namespace ptqx::kernels {

std::span<const Row<WinogradInputFn>> winograd_input_rows() {
  static constexpr Row<WinogradInputFn> kRows[] = {
      {"winograd_input_scalar", Isa::kScalar, winograd_input_scalar},
      {"winograd_input_avx2", Isa::kAvx2, winograd_input_avx2},
      {"winograd_input_avx512vnni", Isa::kAvx512Vnni, winograd_input_avx512vnni},
  };
  return kRows;
}

std::span<const Row<WinogradWeightFn>> winograd_weight_rows() {
  static constexpr Row<WinogradWeightFn> kRows[] = {
      {"winograd_weight_scalar", Isa::kScalar, winograd_weight_scalar},
      {"winograd_weight_avx2", Isa::kAvx2, winograd_weight_avx2},
      {"winograd_weight_avx512vnni", Isa::kAvx512Vnni, winograd_weight_avx512vnni},
  };
  return kRows;
}

std::span<const Row<WinogradOutputFn>> winograd_output_rows() {
  static constexpr Row<WinogradOutputFn> kRows[] = {
      {"winograd_output_scalar", Isa::kScalar, winograd_output_scalar},
      {"winograd_output_avx2", Isa::kAvx2, winograd_output_avx2},
      {"winograd_output_avx512vnni", Isa::kAvx512Vnni, winograd_output_avx512vnni},
  };
  return kRows;
}

}  // namespace ptqx::kernels
