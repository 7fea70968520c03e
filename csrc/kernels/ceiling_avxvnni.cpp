#include <immintrin.h>

#include "kernels/ceiling.h"

namespace ptqx::kernels {

int64_t u8s8_ceiling_avxvnni(int64_t rounds) {
  constexpr int kAccumulators = 12;  // of 16 registers
  __m256i acc[kAccumulators];
  for (__m256i& a : acc) a = _mm256_setzero_si256();
  const __m256i x = _mm256_set1_epi8(3);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kAccumulators; ++i) acc[i] = _mm256_dpbusd_avx_epi32(acc[i], x, x);
  }
#pragma GCC unroll 12
  for (int i = 0; i < kAccumulators; ++i) asm volatile("" : : "x"(acc[i]));
  return rounds * kAccumulators * 32;
}

}  // namespace ptqx::kernels
