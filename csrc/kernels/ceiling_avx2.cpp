#include <immintrin.h>

#include "kernels/ceiling.h"

namespace ptqx::kernels {
namespace {

// 16 registers: 12 accumulators, two operands, one product.
constexpr int kAccumulators = 12;

template <class Vector>
void keep(const Vector* acc) {
#pragma GCC unroll 12
  for (int i = 0; i < kAccumulators; ++i) asm volatile("" : : "x"(acc[i]));
}

__attribute__((target("avx2,fma"))) void fused(int64_t rounds) {
  __m256 acc[kAccumulators];
  for (__m256& a : acc) a = _mm256_setzero_ps();
  const __m256 x = _mm256_set1_ps(0.5F);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kAccumulators; ++i) acc[i] = _mm256_fmadd_ps(acc[i], x, x);
  }
  keep(acc);
}

void multiplied_and_added(int64_t rounds) {
  __m256 acc[kAccumulators];
  for (__m256& a : acc) a = _mm256_setzero_ps();
  const __m256 x = _mm256_set1_ps(0.5F);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kAccumulators; ++i) acc[i] = _mm256_add_ps(_mm256_mul_ps(acc[i], x), x);
  }
  keep(acc);
}

}  // namespace

/// VPMADDUBSW, VPMADDWD with ones, VPADDD: what stands for VPDPBUSD where there is none.
int64_t u8s8_ceiling_avx2(int64_t rounds) {
  __m256i acc[kAccumulators];
  for (__m256i& a : acc) a = _mm256_setzero_si256();
  __m256i x = _mm256_set1_epi8(3);
  const __m256i ones = _mm256_set1_epi16(1);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kAccumulators; ++i) {
      asm volatile("" : "+x"(x));  // else the product is made once for all
      acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(_mm256_maddubs_epi16(x, x), ones));
    }
  }
  keep(acc);
  return rounds * kAccumulators * 32;
}

int64_t f32_ceiling_avx2(int64_t rounds) {
  if (__builtin_cpu_supports("fma")) {
    fused(rounds);
  } else {
    multiplied_and_added(rounds);
  }
  return rounds * kAccumulators * 8;
}

uint64_t stream_read_avx2(const uint64_t* words, int64_t n) {
  __m256i sums[4];
  for (__m256i& sum : sums) sum = _mm256_setzero_si256();
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const auto* x = reinterpret_cast<const __m256i*>(words + i + 4 * k);
      sums[k] = _mm256_add_epi64(sums[k], _mm256_loadu_si256(x));
    }
  }
  const __m256i total =
      _mm256_add_epi64(_mm256_add_epi64(sums[0], sums[1]), _mm256_add_epi64(sums[2], sums[3]));
  alignas(32) uint64_t lanes[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), total);
  uint64_t sum = lanes[0] + lanes[1] + lanes[2] + lanes[3];
  for (; i < n; ++i) sum += words[i];
  return sum;
}

}  // namespace ptqx::kernels
