#include "kernels/pointwise_fixed_point.h"
#include "kernels/simd_avx2.h"

namespace ptqx::kernels {
namespace {

__m256i load_minus(const uint8_t* x, int64_t count, __m256i zero_point) {
  return _mm256_sub_epi32(load_codes(x, count), zero_point);
}

CodeRange output_range(const PointwiseTail& tail) {
  return code_range(_mm256_set1_epi32(tail.output_zero_point), tail.qmin, tail.qmax);
}

/// found[k] becomes entry 2 k, or 2 k + 1 where bit 7 of the byte in `odd` is set.
template <int kHalf>
void halve(__m256i (&found)[16], __m256i odd) {
  for (int k = 0; k < kHalf; ++k) found[k] = _mm256_blendv_epi8(found[2 * k], found[2 * k + 1], odd);
}

/// The table entries of 32 codes; parts[k] has entries 16 k to 16 k + 15 twice.
__m256i look_up(const __m256i (&parts)[16], __m256i codes) {
  const __m256i low = _mm256_and_si256(codes, _mm256_set1_epi8(0x0F));
  __m256i found[16];
  for (int k = 0; k < 16; ++k) found[k] = _mm256_shuffle_epi8(parts[k], low);
  halve<8>(found, _mm256_slli_epi16(codes, 3));  // bit 4 of the code to bit 7
  halve<4>(found, _mm256_slli_epi16(codes, 2));
  halve<2>(found, _mm256_slli_epi16(codes, 1));
  halve<1>(found, codes);
  return found[0];
}

}  // namespace

void add_u8_avx2(const uint8_t* a, int32_t a_zero_point, float a_multiplier, const uint8_t* b,
                 int32_t b_zero_point, float b_multiplier, int64_t n, const PointwiseTail& tail, uint8_t* y) {
  const __m256i a_zero = _mm256_set1_epi32(a_zero_point);
  const __m256i b_zero = _mm256_set1_epi32(b_zero_point);
  const __m256 a_factor = _mm256_set1_ps(a_multiplier);
  const __m256 b_factor = _mm256_set1_ps(b_multiplier);
  const CodeRange range = output_range(tail);
  with_activation(tail.activation, [&](auto activate) {
    for_each_8(n, [&](int64_t i, int64_t count) {
      const __m256 a_term = _mm256_mul_ps(_mm256_cvtepi32_ps(load_minus(a + i, count, a_zero)), a_factor);
      const __m256 b_term = _mm256_mul_ps(_mm256_cvtepi32_ps(load_minus(b + i, count, b_zero)), b_factor);
      store_codes(y + i, count, round_and_clamp(activate(_mm256_add_ps(a_term, b_term)), range));
    });
  });
}

void add_fixed_point_u8_avx2(const uint8_t* a, const uint8_t* b, int64_t n, const AddFixedPointArgs& args,
                             uint8_t* y) {
  add_fixed_point<32>(a, b, n, args, y);
}

void mul_u8_avx2(const uint8_t* a, int32_t a_zero_point, const uint8_t* b, int32_t b_zero_point,
                 float multiplier, int64_t n, const PointwiseTail& tail, uint8_t* y) {
  const __m256i a_zero = _mm256_set1_epi32(a_zero_point);
  const __m256i b_zero = _mm256_set1_epi32(b_zero_point);
  const __m256 factor = _mm256_set1_ps(multiplier);
  const CodeRange range = output_range(tail);
  with_activation(tail.activation, [&](auto activate) {
    for_each_8(n, [&](int64_t i, int64_t count) {
      const __m256i product =
          _mm256_mullo_epi32(load_minus(a + i, count, a_zero), load_minus(b + i, count, b_zero));
      const __m256 t = _mm256_mul_ps(_mm256_cvtepi32_ps(product), factor);
      store_codes(y + i, count, round_and_clamp(activate(t), range));
    });
  });
}

void lookup_u8_avx2(const uint8_t* x, int64_t n, const uint8_t table[256], uint8_t* y) {
  __m256i parts[16];
  for (int k = 0; k < 16; ++k) {
    parts[k] = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table + 16 * k)));
  }
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + i), look_up(parts, codes));
  }
  for (; i < n; ++i) y[i] = table[x[i]];
}

void flip_sign_u8_avx2(const uint8_t* x, int64_t n, uint8_t* y) {
  const __m256i sign = _mm256_set1_epi8(-128);
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + i), _mm256_xor_si256(codes, sign));
  }
  for (; i < n; ++i) y[i] = x[i] ^ 0x80;
}

}  // namespace ptqx::kernels
