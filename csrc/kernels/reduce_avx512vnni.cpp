#include "kernels/reduce.h"
#include "kernels/simd_avx512.h"

namespace ptqx::kernels {
namespace {

__mmask16 finite(__m512 x) {
  constexpr int kNanOrInfinity = 0x99;  // quiet and signaling NaN, both infinities
  return _knot_mask16(_mm512_fpclass_ps_mask(x, kNanOrInfinity));
}

/// (x - low) * bins_per_unit of eight elements, rounded down; both in float64.
__m256i bin_of(__m512d x, __m512d low, __m512d bins_per_unit) {
  return _mm512_cvttpd_epi32(_mm512_mul_pd(_mm512_sub_pd(x, low), bins_per_unit));
}

}  // namespace

MinMax min_max_avx512vnni(const float* x, int64_t n) {
  constexpr int kChains = 4;  // min and max take 4 cycles: so many vectors are under way at once
  __m512 smallest[kChains];
  __m512 largest[kChains];
  for (int k = 0; k < kChains; ++k) {
    smallest[k] = _mm512_set1_ps(__builtin_inff());
    largest[k] = _mm512_set1_ps(-__builtin_inff());
  }
  int64_t nonfinite = 0;
  // Lanes beyond n load as 0, a finite number that is not counted.
  const auto step = [&](int k, int64_t i, __mmask16 lanes) {
    const __m512 value = _mm512_maskz_loadu_ps(lanes, x + i);
    const __mmask16 numbers = finite(value);
    const __mmask16 counted = _kand_mask16(lanes, numbers);
    smallest[k] = _mm512_mask_min_ps(smallest[k], counted, smallest[k], value);
    largest[k] = _mm512_mask_max_ps(largest[k], counted, largest[k], value);
    nonfinite += 16 - _mm_popcnt_u32(numbers);
  };
  int64_t i = 0;
  for (; i + 16 * kChains <= n; i += 16 * kChains) {
    __m512 value[kChains];
    __mmask16 all_finite = 0xFFFF;
#pragma GCC unroll 4
    for (int k = 0; k < kChains; ++k) {
      value[k] = _mm512_loadu_ps(x + i + 16 * k);
      all_finite = _kand_mask16(all_finite, finite(value[k]));
    }
    if (all_finite != 0xFFFF) {
      for (int k = 0; k < kChains; ++k) step(k, i + 16 * k, 0xFFFF);
      continue;
    }
#pragma GCC unroll 4
    for (int k = 0; k < kChains; ++k) {
      smallest[k] = _mm512_min_ps(smallest[k], value[k]);
      largest[k] = _mm512_max_ps(largest[k], value[k]);
    }
  }
  for (; i < n; i += 16) step(0, i, first_lanes16(n - i));
  for (int k = 1; k < kChains; ++k) {
    smallest[0] = _mm512_min_ps(smallest[0], smallest[k]);
    largest[0] = _mm512_max_ps(largest[0], largest[k]);
  }
  // Adding 0 turns -0 into +0.
  return {_mm512_reduce_min_ps(smallest[0]) + 0.0F, _mm512_reduce_max_ps(largest[0]) + 0.0F, nonfinite};
}

Moments moments_avx512vnni(const float* x, int64_t n) {
  __m512d sums[2] = {_mm512_setzero_pd(), _mm512_setzero_pd()};
  __m512d squares[2] = {_mm512_setzero_pd(), _mm512_setzero_pd()};
  int64_t nonfinite = 0;
  // Lanes beyond n load as 0: they count as finite and add a zero.
  for_each_16(n, [&](int64_t i, __mmask16 lanes) {
    const __m512 value = _mm512_maskz_loadu_ps(lanes, x + i);
    const __mmask16 numbers = finite(value);
    nonfinite += 16 - _mm_popcnt_u32(numbers);
    const __m512 number = _mm512_maskz_mov_ps(numbers, value);
    const __m512d low = low_to_f64(number);
    const __m512d high = high_to_f64(number);
    sums[0] = _mm512_add_pd(sums[0], low);
    sums[1] = _mm512_add_pd(sums[1], high);
    squares[0] = _mm512_add_pd(squares[0], _mm512_mul_pd(low, low));
    squares[1] = _mm512_add_pd(squares[1], _mm512_mul_pd(high, high));
  });
  return {sum_lanes(sums[0], sums[1]), sum_lanes(squares[0], squares[1]), nonfinite};
}

int64_t histogram_avx512vnni(const float* x, int64_t n, float low, float high, int64_t* counts,
                             int64_t bins) {
  const __m512d origin = _mm512_set1_pd(low);
  const __m512d bins_per_unit = _mm512_set1_pd(static_cast<double>(bins) / (static_cast<double>(high) - low));
  const __m512i last = _mm512_set1_epi32(static_cast<int32_t>(bins - 1));
  int64_t outside = 0;
  for_each_16(n, [&](int64_t i, __mmask16 lanes) {
    const __m512 value = _mm512_maskz_loadu_ps(lanes, x + i);
    const __mmask16 counted = _kand_mask16(lanes, finite(value));
    const __mmask16 above = _mm512_mask_cmp_ps_mask(counted, value, _mm512_set1_ps(high), _CMP_GT_OQ);
    const __mmask16 below = _mm512_mask_cmp_ps_mask(counted, value, _mm512_set1_ps(low), _CMP_LT_OQ);
    outside += _mm_popcnt_u32(_kor_mask16(above, below));
    uint32_t inside = counted & ~(above | below) & 0xFFFFU;
    __m512i bin = _mm512_inserti64x4(_mm512_castsi256_si512(bin_of(low_to_f64(value), origin, bins_per_unit)),
                                     bin_of(high_to_f64(value), origin, bins_per_unit), 1);
    bin = _mm512_min_epi32(bin, last);
    bin = _mm512_mask_mov_epi32(bin, _mm512_cmp_ps_mask(value, _mm512_set1_ps(high), _CMP_EQ_OQ), last);
    alignas(64) int32_t bin_of_lane[16];
    _mm512_store_si512(bin_of_lane, bin);
    if (inside == 0xFFFFU) {
      for (int32_t lane_bin : bin_of_lane) ++counts[lane_bin];
    } else {
      for (; inside != 0; inside &= inside - 1) ++counts[bin_of_lane[__builtin_ctz(inside)]];
    }
  });
  return outside;
}

}  // namespace ptqx::kernels
