#include "kernels/pointwise_fixed_point.h"
#include "kernels/simd_avx512.h"

namespace ptqx::kernels {
namespace {

__m512i load_minus(const uint8_t* x, __mmask16 lanes, __m512i zero_point) {
  return _mm512_sub_epi32(load_codes(x, lanes), zero_point);
}

CodeRange output_range(const PointwiseTail& tail) {
  return code_range(_mm512_set1_epi32(tail.output_zero_point), tail.qmin, tail.qmax);
}

/// found[k] becomes entry 2 k, or 2 k + 1 where bit 7 of the byte in `odd` is set.
template <int kHalf>
void halve(__m512i (&found)[16], __m512i odd) {
  const __mmask64 bytes = _mm512_movepi8_mask(odd);
  for (int k = 0; k < kHalf; ++k) found[k] = _mm512_mask_blend_epi8(bytes, found[2 * k], found[2 * k + 1]);
}

/// The table entries of 64 codes; parts[k] has entries 16 k to 16 k + 15 four times.
__m512i look_up(const __m512i (&parts)[16], __m512i codes) {
  const __m512i low = _mm512_and_si512(codes, _mm512_set1_epi8(0x0F));
  __m512i found[16];
  for (int k = 0; k < 16; ++k) found[k] = _mm512_shuffle_epi8(parts[k], low);
  halve<8>(found, _mm512_slli_epi16(codes, 3));  // bit 4 of the code to bit 7
  halve<4>(found, _mm512_slli_epi16(codes, 2));
  halve<2>(found, _mm512_slli_epi16(codes, 1));
  halve<1>(found, codes);
  return found[0];
}

}  // namespace

void add_u8_avx512vnni(const uint8_t* a, int32_t a_zero_point, float a_multiplier, const uint8_t* b,
                       int32_t b_zero_point, float b_multiplier, int64_t n, const PointwiseTail& tail,
                       uint8_t* y) {
  const __m512i a_zero = _mm512_set1_epi32(a_zero_point);
  const __m512i b_zero = _mm512_set1_epi32(b_zero_point);
  const __m512 a_factor = _mm512_set1_ps(a_multiplier);
  const __m512 b_factor = _mm512_set1_ps(b_multiplier);
  const CodeRange range = output_range(tail);
  with_activation(tail.activation, [&](auto activate) {
    for_each_16(n, [&](int64_t i, __mmask16 lanes) {
      const __m512 a_term = _mm512_mul_ps(_mm512_cvtepi32_ps(load_minus(a + i, lanes, a_zero)), a_factor);
      const __m512 b_term = _mm512_mul_ps(_mm512_cvtepi32_ps(load_minus(b + i, lanes, b_zero)), b_factor);
      store_codes(y + i, lanes, round_and_clamp(activate(_mm512_add_ps(a_term, b_term)), range));
    });
  });
}

void add_fixed_point_u8_avx512vnni(const uint8_t* a, const uint8_t* b, int64_t n,
                                   const AddFixedPointArgs& args, uint8_t* y) {
  add_fixed_point<64>(a, b, n, args, y);
}

void mul_u8_avx512vnni(const uint8_t* a, int32_t a_zero_point, const uint8_t* b, int32_t b_zero_point,
                       float multiplier, int64_t n, const PointwiseTail& tail, uint8_t* y) {
  const __m512i a_zero = _mm512_set1_epi32(a_zero_point);
  const __m512i b_zero = _mm512_set1_epi32(b_zero_point);
  const __m512 factor = _mm512_set1_ps(multiplier);
  const CodeRange range = output_range(tail);
  with_activation(tail.activation, [&](auto activate) {
    for_each_16(n, [&](int64_t i, __mmask16 lanes) {
      const __m512i product =
          _mm512_mullo_epi32(load_minus(a + i, lanes, a_zero), load_minus(b + i, lanes, b_zero));
      const __m512 t = _mm512_mul_ps(_mm512_cvtepi32_ps(product), factor);
      store_codes(y + i, lanes, round_and_clamp(activate(t), range));
    });
  });
}

void lookup_u8_avx512vnni(const uint8_t* x, int64_t n, const uint8_t table[256], uint8_t* y) {
  __m512i parts[16];
  for (int k = 0; k < 16; ++k) {
    parts[k] = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table + 16 * k)));
  }
  for (int64_t i = 0; i < n; i += 64) {
    const __mmask64 lanes = first_lanes64(n - i);
    _mm512_mask_storeu_epi8(y + i, lanes, look_up(parts, _mm512_maskz_loadu_epi8(lanes, x + i)));
  }
}

void flip_sign_u8_avx512vnni(const uint8_t* x, int64_t n, uint8_t* y) {
  const __m512i sign = _mm512_set1_epi8(-128);
  for (int64_t i = 0; i < n; i += 64) {
    const __mmask64 lanes = first_lanes64(n - i);
    _mm512_mask_storeu_epi8(y + i, lanes, _mm512_xor_si512(_mm512_maskz_loadu_epi8(lanes, x + i), sign));
  }
}

}  // namespace ptqx::kernels
