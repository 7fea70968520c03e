#include "kernels/pack.h"
#include "kernels/simd_avx2.h"

namespace ptqx::kernels {
namespace {

/// pack_block turns 32 codes into 32 / kPerByte bytes; the last ones are padded with 0.
template <int kPerByte, class PackBlock>
void pack(const int8_t* x, int64_t n, uint8_t* packed, PackBlock pack_block) {
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    pack_block(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i)), packed + i / kPerByte);
  }
  if (i == n) return;
  alignas(32) int8_t codes[32] = {};
  alignas(32) uint8_t bytes[32 / kPerByte];
  __builtin_memcpy(codes, x + i, static_cast<size_t>(n - i));
  pack_block(_mm256_load_si256(reinterpret_cast<const __m256i*>(codes)), bytes);
  __builtin_memcpy(packed + i / kPerByte, bytes, static_cast<size_t>((n - i + kPerByte - 1) / kPerByte));
}

/// unpack_block turns 32 / kPerByte bytes into 32 codes.
template <int kPerByte, class UnpackBlock>
void unpack(const uint8_t* packed, int64_t n, int8_t* y, UnpackBlock unpack_block) {
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + i), unpack_block(packed + i / kPerByte));
  }
  if (i == n) return;
  alignas(32) uint8_t bytes[32 / kPerByte] = {};
  alignas(32) int8_t codes[32];
  __builtin_memcpy(bytes, packed + i / kPerByte, static_cast<size_t>((n - i + kPerByte - 1) / kPerByte));
  _mm256_store_si256(reinterpret_cast<__m256i*>(codes), unpack_block(bytes));
  __builtin_memcpy(y + i, codes, static_cast<size_t>(n - i));
}

__m256i sign_extend(__m256i codes, int8_t sign_bit) {
  const __m256i sign = _mm256_set1_epi8(sign_bit);
  return _mm256_sub_epi8(_mm256_xor_si256(codes, sign), sign);
}

}  // namespace

void pack_int4_avx2(const int8_t* x, int64_t n, uint8_t* packed) {
  pack<2>(x, n, packed, [](__m256i codes, uint8_t* y) {
    const __m256i nibbles = _mm256_and_si256(codes, _mm256_set1_epi8(0x0F));
    // Even code * 1 + odd code * 16.
    const __m256i pairs = _mm256_maddubs_epi16(nibbles, _mm256_set1_epi16(0x1001));
    const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packus_epi16(pairs, pairs), 0b1000);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y), _mm256_castsi256_si128(bytes));
  });
}

void unpack_int4_avx2(const uint8_t* packed, int64_t n, int8_t* y) {
  unpack<2>(packed, n, y, [](const uint8_t* x) {
    const __m256i bytes = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
    const __m256i codes = _mm256_or_si256(bytes, _mm256_slli_epi16(bytes, 4));
    return sign_extend(_mm256_and_si256(codes, _mm256_set1_epi8(0x0F)), 0x08);
  });
}

void pack_int2_avx2(const int8_t* x, int64_t n, uint8_t* packed) {
  pack<4>(x, n, packed, [](__m256i codes, uint8_t* y) {
    const __m256i crumbs = _mm256_and_si256(codes, _mm256_set1_epi8(0x03));
    // Even code * 1 + odd code * 4, then even pair * 1 + odd pair * 16.
    const __m256i pairs = _mm256_maddubs_epi16(crumbs, _mm256_set1_epi16(0x0401));
    store_codes(y, 8, _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x00100001)));
  });
}

void unpack_int2_avx2(const uint8_t* packed, int64_t n, int8_t* y) {
  unpack<4>(packed, n, y, [](const uint8_t* x) {
    const __m256i bytes = load_codes(x, 8);
    // Byte k of a lane needs bits 2k and 2k + 1 at its bottom.
    __m256i codes = _mm256_or_si256(bytes, _mm256_slli_epi32(bytes, 12));
    codes = _mm256_or_si256(codes, _mm256_slli_epi32(codes, 6));
    return sign_extend(_mm256_and_si256(codes, _mm256_set1_epi8(0x03)), 0x02);
  });
}

void pack_signs_avx2(const float* x, int64_t n, uint8_t* packed) {
  const __m256 zero = _mm256_setzero_ps();
  const auto signs = [&](const float* values) {
    return static_cast<uint8_t>(_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(values), zero, _CMP_GE_OQ)));
  };
  int64_t byte = 0;
  for (; byte * 8 + 8 <= n; ++byte) packed[byte] = signs(x + byte * 8);
  if (byte * 8 < n) {
    float last[8];
    for (int k = 0; k < 8; ++k) last[k] = byte * 8 + k < n ? x[byte * 8 + k] : -1.0F;
    packed[byte++] = signs(last);
  }
  for (; byte < (n + 31) / 32 * 4; ++byte) packed[byte] = 0;
}

}  // namespace ptqx::kernels
