#include "kernels/ceiling.h"
#include "kernels/simd_avx512.h"

namespace ptqx::kernels {
namespace {

constexpr int kAccumulators = 24;  // of 32 registers

template <class Vector>
void keep(const Vector* acc) {
#pragma GCC unroll 24
  for (int i = 0; i < kAccumulators; ++i) asm volatile("" : : "v"(acc[i]));
}

}  // namespace

int64_t u8s8_ceiling_avx512vnni(int64_t rounds) {
  __m512i acc[kAccumulators];
  for (__m512i& a : acc) a = _mm512_setzero_si512();
  const __m512i x = _mm512_set1_epi8(3);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 24
    for (int i = 0; i < kAccumulators; ++i) acc[i] = _mm512_dpbusd_epi32(acc[i], x, x);
  }
  keep(acc);
  return rounds * kAccumulators * 64;
}

int64_t f32_ceiling_avx512vnni(int64_t rounds) {
  __m512 acc[kAccumulators];
  for (__m512& a : acc) a = _mm512_setzero_ps();
  const __m512 x = _mm512_set1_ps(0.5F);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 24
    for (int i = 0; i < kAccumulators; ++i) acc[i] = _mm512_fmadd_ps(acc[i], x, x);
  }
  keep(acc);
  return rounds * kAccumulators * 16;
}

uint64_t stream_read_avx512vnni(const uint64_t* words, int64_t n) {
  __m512i sums[4];
  for (__m512i& sum : sums) sum = _mm512_setzero_si512();
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) sums[k] = _mm512_add_epi64(sums[k], _mm512_loadu_si512(words + i + 8 * k));
  }
  const __m512i total =
      _mm512_add_epi64(_mm512_add_epi64(sums[0], sums[1]), _mm512_add_epi64(sums[2], sums[3]));
  // Not by the reduction of the intrinsics, which adds signed integers.
  uint64_t lanes[8];
  _mm512_storeu_si512(lanes, total);
  uint64_t sum = 0;
  for (const uint64_t lane : lanes) sum += lane;
  for (; i < n; ++i) sum += words[i];
  return sum;
}

}  // namespace ptqx::kernels
