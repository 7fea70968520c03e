#include "kernels/simd_avx512.h"
#include "kernels/upsample_lines.h"

namespace ptqx::kernels {
namespace {

inline __m512 between(__m512 first, __m512 second, __m512 first_weight, __m512 second_weight) {
  return _mm512_add_ps(_mm512_mul_ps(first, first_weight), _mm512_mul_ps(second, second_weight));
}

/// load(address, lanes) gives 16 channels; store(address, lanes, values) writes 16 elements of the output.
template <class T, class Load, class Store>
void interpolate(const T* x, const BilinearArgs& args, float* scratch, T* y, Load load, Store store) {
  const auto between_columns = [&](const T* row, float* line) {
    for (int64_t ox = 0; ox < args.ow; ++ox, line += args.c) {
      const BilinearTap& tap = args.columns[ox];
      const T* first = row + tap.first * args.c;
      const T* second = row + tap.second * args.c;
      const __m512 first_weight = _mm512_set1_ps(tap.first_weight);
      const __m512 second_weight = _mm512_set1_ps(tap.second_weight);
      for_each_16(args.c, [&](int64_t i, __mmask16 lanes) {
        const __m512 v =
            between(load(first + i, lanes), load(second + i, lanes), first_weight, second_weight);
        _mm512_mask_storeu_ps(line + i, lanes, v);
      });
    }
  };
  const auto between_rows = [&](const float* first, const float* second, const BilinearTap& tap, T* to) {
    const __m512 first_weight = _mm512_set1_ps(tap.first_weight);
    const __m512 second_weight = _mm512_set1_ps(tap.second_weight);
    for_each_16(args.ow * args.c, [&](int64_t i, __mmask16 lanes) {
      const __m512 a = _mm512_maskz_loadu_ps(lanes, first + i);
      const __m512 b = _mm512_maskz_loadu_ps(lanes, second + i);
      store(to + i, lanes, between(a, b, first_weight, second_weight));
    });
  };
  interpolate_lines(x, args, scratch, y, between_columns, between_rows);
}

}  // namespace

void upsample_bilinear2d_u8_avx512vnni(const uint8_t* x, const BilinearArgs& args, float* scratch,
                                       uint8_t* y) {
  const __m512i zero_point = _mm512_set1_epi32(args.zero_point);
  const CodeRange range = code_range(zero_point, 0, 255);
  interpolate(
      x, args, scratch, y,
      [&](const uint8_t* from, __mmask16 lanes) {
        return _mm512_cvtepi32_ps(_mm512_sub_epi32(load_codes(from, lanes), zero_point));
      },
      [&](uint8_t* to, __mmask16 lanes, __m512 v) { store_codes(to, lanes, round_and_clamp(v, range)); });
}

void upsample_bilinear2d_f32_avx512vnni(const float* x, const BilinearArgs& args, float* scratch, float* y) {
  interpolate(
      x, args, scratch, y,
      [](const float* from, __mmask16 lanes) { return _mm512_maskz_loadu_ps(lanes, from); },
      [](float* to, __mmask16 lanes, __m512 v) { _mm512_mask_storeu_ps(to, lanes, v); });
}

}  // namespace ptqx::kernels
