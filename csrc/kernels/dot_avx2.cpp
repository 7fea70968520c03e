#include <immintrin.h>

#include "kernels/dot.h"

namespace ptqx::kernels {

DotS16Fn dot_s16_avx2;

namespace {

constexpr int32_t kBias = 0x7FFFFFFF;

/// Four uint64 and the eight uint32 of x.
__m256i add_u32(__m256i sum, __m256i x) {
  const __m256i even = _mm256_and_si256(x, _mm256_set1_epi64x(0xFFFFFFFF));
  return _mm256_add_epi64(sum, _mm256_add_epi64(even, _mm256_srli_epi64(x, 32)));
}

}  // namespace

// vpmaddwd gives the sum of two products modulo 2^32. It lies in (-2^31, 2^31]: with 2^31 - 1 more it is a
// uint32, without loss.
int64_t dot_s16_avx2(const int16_t* x, const int16_t* w, int64_t n) {
  __m256i sum = _mm256_setzero_si256();
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i));
    const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + i));
    sum = add_u32(sum, _mm256_add_epi32(_mm256_madd_epi16(a, b), _mm256_set1_epi32(kBias)));
  }
  alignas(32) int64_t lanes[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), sum);
  int64_t total = lanes[0] + lanes[1] + lanes[2] + lanes[3] - i / 2 * kBias;
  for (; i < n; ++i) total += int64_t{x[i]} * w[i];
  return total;
}

}  // namespace ptqx::kernels
