#include "kernels/upsample.h"

#include <algorithm>
#include <cmath>

namespace ptqx::kernels {

UpsampleBilinear2dU8Fn upsample_bilinear2d_u8_scalar, upsample_bilinear2d_u8_avx2,
    upsample_bilinear2d_u8_avx512vnni;
UpsampleBilinear2dF32Fn upsample_bilinear2d_f32_scalar, upsample_bilinear2d_f32_avx2,
    upsample_bilinear2d_f32_avx512vnni;

std::span<const Row<UpsampleBilinear2dU8Fn>> upsample_bilinear2d_u8_rows() {
  static constexpr Row<UpsampleBilinear2dU8Fn> kRows[] = {
      {"upsample_bilinear2d_u8_scalar", Isa::kScalar, upsample_bilinear2d_u8_scalar},
      {"upsample_bilinear2d_u8_avx2", Isa::kAvx2, upsample_bilinear2d_u8_avx2},
      {"upsample_bilinear2d_u8_avx512vnni", Isa::kAvx512Vnni, upsample_bilinear2d_u8_avx512vnni},
  };
  return kRows;
}

std::span<const Row<UpsampleBilinear2dF32Fn>> upsample_bilinear2d_f32_rows() {
  static constexpr Row<UpsampleBilinear2dF32Fn> kRows[] = {
      {"upsample_bilinear2d_f32_scalar", Isa::kScalar, upsample_bilinear2d_f32_scalar},
      {"upsample_bilinear2d_f32_avx2", Isa::kAvx2, upsample_bilinear2d_f32_avx2},
      {"upsample_bilinear2d_f32_avx512vnni", Isa::kAvx512Vnni, upsample_bilinear2d_f32_avx512vnni},
  };
  return kRows;
}

void upsample_bilinear2d_u8(const uint8_t* x, const BilinearArgs& args, float* scratch, uint8_t* y) {
  best_row(upsample_bilinear2d_u8_rows()).function(x, args, scratch, y);
}

void upsample_bilinear2d_f32(const float* x, const BilinearArgs& args, float* scratch, float* y) {
  best_row(upsample_bilinear2d_f32_rows()).function(x, args, scratch, y);
}

void bilinear_taps(int64_t in, int64_t out, bool align_corners, int64_t begin, int64_t end,
                   BilinearTap* taps) {
  const auto from = static_cast<double>(align_corners ? in - 1 : in);
  const auto to = static_cast<double>(align_corners ? std::max(out - 1, int64_t{1}) : out);
  for (int64_t o = begin; o < end; ++o) {
    const auto place = static_cast<double>(o);
    const double at = align_corners ? place * from / to : std::max((place + 0.5) * from / to - 0.5, 0.0);
    BilinearTap& tap = taps[o - begin];
    tap.first = std::min(static_cast<int64_t>(at), in - 1);
    tap.second = std::min(tap.first + 1, in - 1);
    tap.second_weight = static_cast<float>(at - static_cast<double>(tap.first));
    tap.first_weight = 1.0F - tap.second_weight;
  }
}

}  // namespace ptqx::kernels
