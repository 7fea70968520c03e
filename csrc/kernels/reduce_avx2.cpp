#include "kernels/reduce.h"
#include "kernels/simd_avx2.h"

namespace ptqx::kernels {
namespace {

/// Lanes that hold a finite number: all bits set.
__m256 finite(__m256 x) {
  const __m256 magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0F), x);
  return _mm256_cmp_ps(magnitude, _mm256_set1_ps(__builtin_inff()), _CMP_LT_OQ);
}

int64_t count_lanes(__m256 lanes) { return _mm_popcnt_u32(static_cast<uint32_t>(_mm256_movemask_ps(lanes))); }

float lowest(__m256 x) {
  __m128 m = _mm_min_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  m = _mm_min_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_min_ss(m, _mm_shuffle_ps(m, m, 1)));
}

float highest(__m256 x) {
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
}

/// (x - low) * bins_per_unit of four elements, rounded down; both in float64.
__m128i bin_of(__m256d x, __m256d low, __m256d bins_per_unit) {
  return _mm256_cvttpd_epi32(_mm256_mul_pd(_mm256_sub_pd(x, low), bins_per_unit));
}

}  // namespace

MinMax min_max_avx2(const float* x, int64_t n) {
  constexpr int kChains = 4;  // min and max take 4 cycles: so many vectors are under way at once
  const __m256 infinity = _mm256_set1_ps(__builtin_inff());
  const __m256 minus_infinity = _mm256_set1_ps(-__builtin_inff());
  __m256 smallest[kChains];
  __m256 largest[kChains];
  for (int k = 0; k < kChains; ++k) {
    smallest[k] = infinity;
    largest[k] = minus_infinity;
  }
  int64_t nonfinite = 0;
  // Lanes beyond n load as 0, a finite number that is not counted.
  const auto step = [&](int k, int64_t i, int64_t count) {
    const __m256 value = load_f32(x + i, count);
    const __m256 numbers = finite(value);
    const __m256 counted = _mm256_and_ps(numbers, _mm256_castsi256_ps(first_lanes(count)));
    smallest[k] = _mm256_min_ps(smallest[k], _mm256_blendv_ps(infinity, value, counted));
    largest[k] = _mm256_max_ps(largest[k], _mm256_blendv_ps(minus_infinity, value, counted));
    nonfinite += 8 - count_lanes(numbers);
  };
  int64_t i = 0;
  for (; i + 8 * kChains <= n; i += 8 * kChains) {
    __m256 value[kChains];
    __m256 all_finite = finite(_mm256_setzero_ps());
#pragma GCC unroll 4
    for (int k = 0; k < kChains; ++k) {
      value[k] = _mm256_loadu_ps(x + i + 8 * k);
      all_finite = _mm256_and_ps(all_finite, finite(value[k]));
    }
    if (_mm256_movemask_ps(all_finite) != 0xFF) {
      for (int k = 0; k < kChains; ++k) step(k, i + 8 * k, 8);
      continue;
    }
#pragma GCC unroll 4
    for (int k = 0; k < kChains; ++k) {
      smallest[k] = _mm256_min_ps(smallest[k], value[k]);
      largest[k] = _mm256_max_ps(largest[k], value[k]);
    }
  }
  for (; i < n; i += 8) step(0, i, smaller(n - i, 8));
  for (int k = 1; k < kChains; ++k) {
    smallest[0] = _mm256_min_ps(smallest[0], smallest[k]);
    largest[0] = _mm256_max_ps(largest[0], largest[k]);
  }
  // Adding 0 turns -0 into +0.
  return {lowest(smallest[0]) + 0.0F, highest(largest[0]) + 0.0F, nonfinite};
}

Moments moments_avx2(const float* x, int64_t n) {
  __m256d sums[4];
  __m256d squares[4];
  for (int k = 0; k < 4; ++k) sums[k] = squares[k] = _mm256_setzero_pd();
  int64_t nonfinite = 0;
  // Lanes beyond n load as 0: they count as finite and add a zero.
  const auto step = [&](int half, int64_t i, int64_t count) {
    const __m256 value = load_f32(x + i, count);
    const __m256 counted = finite(value);
    nonfinite += 8 - count_lanes(counted);
    const __m256 number = _mm256_and_ps(counted, value);
    const __m256d wide[2] = {low_to_f64(number), high_to_f64(number)};
    for (int k = 0; k < 2; ++k) {
      sums[2 * half + k] = _mm256_add_pd(sums[2 * half + k], wide[k]);
      squares[2 * half + k] = _mm256_add_pd(squares[2 * half + k], _mm256_mul_pd(wide[k], wide[k]));
    }
  };
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    step(0, i, 8);
    step(1, i + 8, 8);
  }
  if (i < n) step(0, i, smaller(n - i, 8));
  if (i + 8 < n) step(1, i + 8, n - i - 8);
  return {sum_lanes(sums), sum_lanes(squares), nonfinite};
}

int64_t histogram_avx2(const float* x, int64_t n, float low, float high, int64_t* counts, int64_t bins) {
  const __m256d origin = _mm256_set1_pd(low);
  const __m256d bins_per_unit = _mm256_set1_pd(static_cast<double>(bins) / (static_cast<double>(high) - low));
  const __m256i last = _mm256_set1_epi32(static_cast<int32_t>(bins - 1));
  int64_t outside = 0;
  for_each_8(n, [&](int64_t i, int64_t count) {
    const __m256 value = load_f32(x + i, count);
    const __m256 counted = _mm256_and_ps(finite(value), _mm256_castsi256_ps(first_lanes(count)));
    const __m256 above = _mm256_cmp_ps(value, _mm256_set1_ps(high), _CMP_GT_OQ);
    const __m256 below = _mm256_cmp_ps(value, _mm256_set1_ps(low), _CMP_LT_OQ);
    const __m256 beyond = _mm256_and_ps(counted, _mm256_or_ps(above, below));
    outside += count_lanes(beyond);
    auto inside = static_cast<uint32_t>(_mm256_movemask_ps(_mm256_andnot_ps(beyond, counted)));
    __m256i bin = _mm256_set_m128i(bin_of(high_to_f64(value), origin, bins_per_unit),
                                   bin_of(low_to_f64(value), origin, bins_per_unit));
    const __m256i top = _mm256_castps_si256(_mm256_cmp_ps(value, _mm256_set1_ps(high), _CMP_EQ_OQ));
    bin = _mm256_blendv_epi8(_mm256_min_epi32(bin, last), last, top);
    alignas(32) int32_t bin_of_lane[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(bin_of_lane), bin);
    if (inside == 0xFFU) {
      for (int32_t lane_bin : bin_of_lane) ++counts[lane_bin];
    } else {
      for (; inside != 0; inside &= inside - 1) ++counts[bin_of_lane[__builtin_ctz(inside)]];
    }
  });
  return outside;
}

}  // namespace ptqx::kernels
