#include <immintrin.h>

#include "kernels/dot.h"

namespace ptqx::kernels {

DotS16Fn dot_s16_avx2;

namespace {

/// Eight int32 added to four int64.
__m256i add_s32(__m256i sum, __m256i x) {
  sum = _mm256_add_epi64(sum, _mm256_cvtepi32_epi64(_mm256_castsi256_si128(x)));
  return _mm256_add_epi64(sum, _mm256_cvtepi32_epi64(_mm256_extracti128_si256(x, 1)));
}

}  // namespace

// Not by vpmaddwd: two products of -2^15 with itself are 2^31.
int64_t dot_s16_avx2(const int16_t* x, const int16_t* w, int64_t n) {
  __m256i sum = _mm256_setzero_si256();
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256i a = _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i)));
    const __m256i b = _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w + i)));
    sum = add_s32(sum, _mm256_mullo_epi32(a, b));
  }
  alignas(32) int64_t lanes[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), sum);
  int64_t total = lanes[0] + lanes[1] + lanes[2] + lanes[3];
  for (; i < n; ++i) total += int64_t{x[i]} * w[i];
  return total;
}

}  // namespace ptqx::kernels
