#include "kernels/pack.h"
#include "kernels/simd_avx512.h"

namespace ptqx::kernels {

void pack_int4_avx512vnni(const int8_t* x, int64_t n, uint8_t* packed) {
  const __m512i nibble = _mm512_set1_epi8(0x0F);
  const __m512i weights = _mm512_set1_epi16(0x1001);  // even code * 1 + odd code * 16
  for (int64_t i = 0; i < n; i += 64) {
    const __m512i codes = _mm512_and_si512(_mm512_maskz_loadu_epi8(first_lanes64(n - i), x + i), nibble);
    const __m256i bytes = _mm512_cvtepi16_epi8(_mm512_maddubs_epi16(codes, weights));
    const auto written = static_cast<__mmask32>(first_lanes64((n - i + 1) / 2));
    _mm256_mask_storeu_epi8(packed + i / 2, written, bytes);
  }
}

void unpack_int4_avx512vnni(const uint8_t* packed, int64_t n, int8_t* y) {
  const __m512i nibble = _mm512_set1_epi8(0x0F);
  const __m512i sign = _mm512_set1_epi8(0x08);
  for (int64_t i = 0; i < n; i += 64) {
    const auto read = static_cast<__mmask32>(first_lanes64((n - i + 1) / 2));
    const __m512i bytes = _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(read, packed + i / 2));
    __m512i codes = _mm512_or_si512(bytes, _mm512_slli_epi16(bytes, 4));
    codes = _mm512_and_si512(codes, nibble);
    codes = _mm512_sub_epi8(_mm512_xor_si512(codes, sign), sign);
    _mm512_mask_storeu_epi8(y + i, first_lanes64(n - i), codes);
  }
}

void pack_int2_avx512vnni(const int8_t* x, int64_t n, uint8_t* packed) {
  const __m512i crumb = _mm512_set1_epi8(0x03);
  const __m512i byte_weights = _mm512_set1_epi16(0x0401);      // even code * 1 + odd code * 4
  const __m512i pair_weights = _mm512_set1_epi32(0x00100001);  // even pair * 1 + odd pair * 16
  for (int64_t i = 0; i < n; i += 64) {
    const __m512i codes = _mm512_and_si512(_mm512_maskz_loadu_epi8(first_lanes64(n - i), x + i), crumb);
    const __m512i pairs = _mm512_maddubs_epi16(codes, byte_weights);
    const __m512i words = _mm512_madd_epi16(pairs, pair_weights);
    store_codes(packed + i / 4, first_lanes16((n - i + 3) / 4), words);
  }
}

void unpack_int2_avx512vnni(const uint8_t* packed, int64_t n, int8_t* y) {
  const __m512i crumb = _mm512_set1_epi8(0x03);
  const __m512i sign = _mm512_set1_epi8(0x02);
  for (int64_t i = 0; i < n; i += 64) {
    const __m512i bytes = load_codes(packed + i / 4, first_lanes16((n - i + 3) / 4));
    // Byte k of a lane needs bits 2k and 2k + 1 at its bottom.
    __m512i codes = _mm512_or_si512(bytes, _mm512_slli_epi32(bytes, 12));
    codes = _mm512_or_si512(codes, _mm512_slli_epi32(codes, 6));
    codes = _mm512_and_si512(codes, crumb);
    codes = _mm512_sub_epi8(_mm512_xor_si512(codes, sign), sign);
    _mm512_mask_storeu_epi8(y + i, first_lanes64(n - i), codes);
  }
}

void pack_signs_avx512vnni(const float* x, int64_t n, uint8_t* packed) {
  const __m512 zero = _mm512_setzero_ps();
  for (int64_t i = 0; i < (n + 31) / 32 * 32; i += 16) {
    const __mmask16 read = i < n ? first_lanes16(n - i) : __mmask16{0};
    const __mmask16 signs =
        _mm512_mask_cmp_ps_mask(read, _mm512_maskz_loadu_ps(read, x + i), zero, _CMP_GE_OQ);
    __builtin_memcpy(packed + i / 8, &signs, 2);
  }
}

}  // namespace ptqx::kernels
