#include "kernels/ceiling.h"

namespace ptqx::kernels {

CeilingFn u8s8_ceiling_scalar, u8s8_ceiling_avx2, u8s8_ceiling_avxvnni, u8s8_ceiling_avx512vnni,
    u8s8_ceiling_amxint8;

std::span<const Row<CeilingFn>> u8s8_ceiling_rows() {
  static constexpr Row<CeilingFn> kRows[] = {
      {"u8s8_ceiling_scalar", Isa::kScalar, u8s8_ceiling_scalar},
      {"u8s8_ceiling_avx2", Isa::kAvx2, u8s8_ceiling_avx2},
      {"u8s8_ceiling_avxvnni", Isa::kAvxVnni, u8s8_ceiling_avxvnni},
      {"u8s8_ceiling_avx512vnni", Isa::kAvx512Vnni, u8s8_ceiling_avx512vnni},
      {"u8s8_ceiling_amxint8", Isa::kAmxInt8, u8s8_ceiling_amxint8},
  };
  return kRows;
}

int64_t u8s8_ceiling(int64_t rounds) { return best_row(u8s8_ceiling_rows()).function(rounds); }

CeilingFn f32_ceiling_scalar, f32_ceiling_avx2, f32_ceiling_avx512vnni;

std::span<const Row<CeilingFn>> f32_ceiling_rows() {
  static constexpr Row<CeilingFn> kRows[] = {
      {"f32_ceiling_scalar", Isa::kScalar, f32_ceiling_scalar},
      {"f32_ceiling_avx2", Isa::kAvx2, f32_ceiling_avx2},
      {"f32_ceiling_avx512vnni", Isa::kAvx512Vnni, f32_ceiling_avx512vnni},
  };
  return kRows;
}

int64_t f32_ceiling(int64_t rounds) { return best_row(f32_ceiling_rows()).function(rounds); }

StreamReadFn stream_read_scalar, stream_read_avx2, stream_read_avx512vnni;

std::span<const Row<StreamReadFn>> stream_read_rows() {
  static constexpr Row<StreamReadFn> kRows[] = {
      {"stream_read_scalar", Isa::kScalar, stream_read_scalar},
      {"stream_read_avx2", Isa::kAvx2, stream_read_avx2},
      {"stream_read_avx512vnni", Isa::kAvx512Vnni, stream_read_avx512vnni},
  };
  return kRows;
}

uint64_t stream_read(const uint64_t* words, int64_t n) {
  return best_row(stream_read_rows()).function(words, n);
}

}  // namespace ptqx::kernels
