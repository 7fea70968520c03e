#pragma once

// What the *_avx512vnni.cpp files share. In an anonymous namespace because an inline function compiled
// with wide flags could become the program's one copy of it.
//
// min and max give their second operand when the operands are equal or one is a NaN, so with the
// bound first they are std::min and std::max of arith.h.

// GCC 12 takes the undefined operands inside its own intrinsics for mistakes of their users (its bug 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop

#include "kernels/quantize.h"
#include "kernels/types.h"

namespace ptqx::kernels {
namespace {

/// The first `count` lanes: none below 1, all 16 or 64 for a larger one.
inline __mmask16 first_lanes16(int64_t count) {
  if (count <= 0) return 0;  // shifting by a negative count is undefined, and on x86 it is a large mask
  return count >= 16 ? static_cast<__mmask16>(0xFFFF) : static_cast<__mmask16>((1U << count) - 1U);
}
inline __mmask64 first_lanes64(int64_t count) {
  if (count <= 0) return 0;
  return count >= 64 ? ~0ULL : (1ULL << count) - 1ULL;
}

/// op(i, lanes) for i = 0, 16, 32, ... below n.
template <class Op>
inline void for_each_16(int64_t n, Op op) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) op(i, static_cast<__mmask16>(0xFFFF));
  if (i < n) op(i, first_lanes16(n - i));
}

/// op(i, lanes, scale, zero_point) for consecutive vectors of a blocked tensor.
template <class Op>
inline void for_each_16(Blocks blocks, const float* scale, const int32_t* zero_point, Op op) {
  if (blocks.channels == 1) blocks = {1, 1, blocks.outer * blocks.inner};
  if (blocks.inner >= 16 || blocks.channels == 1) {
    int64_t run = 0;
    for (int64_t outer = 0; outer < blocks.outer; ++outer) {
      for (int64_t channel = 0; channel < blocks.channels; ++channel, run += blocks.inner) {
        const __m512 run_scale = _mm512_set1_ps(scale[channel]);
        const __m512i run_zero_point = _mm512_set1_epi32(zero_point[channel]);
        for_each_16(blocks.inner,
                    [&](int64_t i, __mmask16 lanes) { op(run + i, lanes, run_scale, run_zero_point); });
      }
    }
    return;
  }
  // Several channels a vector: lane i holds channel `channel + (phase + i) / inner`.
  const int64_t row = blocks.channels * blocks.inner;
  if (row == 0) return;
  const int64_t channel_step = 16 / blocks.inner;
  const int64_t phase_step = 16 % blocks.inner;
  const __m512i reciprocal = _mm512_set1_epi32(static_cast<int32_t>(65536 / blocks.inner + 1));
  const __m512i iota = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (int64_t outer = 0; outer < blocks.outer; ++outer) {
    int64_t channel = 0;
    int64_t phase = 0;
    for (int64_t i = 0; i < row; i += 16) {
      const __m512i place = _mm512_add_epi32(iota, _mm512_set1_epi32(static_cast<int32_t>(phase)));
      const __m512i index = _mm512_srli_epi32(_mm512_mullo_epi32(place, reciprocal), 16);
      const __mmask16 channels = first_lanes16(blocks.channels - channel);
      const __m512 scales = _mm512_maskz_loadu_ps(channels, scale + channel);
      const __m512i zero_points = _mm512_maskz_loadu_epi32(channels, zero_point + channel);
      op(outer * row + i, first_lanes16(row - i), _mm512_permutexvar_ps(index, scales),
         _mm512_permutexvar_epi32(index, zero_points));
      channel += channel_step;
      phase += phase_step;
      if (phase >= blocks.inner) {
        phase -= blocks.inner;
        ++channel;
      }
    }
  }
}

/// The codes qmin..qmax as seen from a zero point.
struct CodeRange {
  __m512 low, high;  // qmin - zero_point, qmax - zero_point
  __m512i zero_point;
};

inline CodeRange code_range(__m512i zero_point, int32_t qmin, int32_t qmax) {
  return {_mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_set1_epi32(qmin), zero_point)),
          _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_set1_epi32(qmax), zero_point)), zero_point};
}

inline __m512i round_and_clamp(__m512 t, const CodeRange& range) {
  const __m512 number = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(t, t, _CMP_ORD_Q), t);
  const __m512 clamped = _mm512_min_ps(range.high, _mm512_max_ps(range.low, number));
  return _mm512_add_epi32(_mm512_cvtps_epi32(clamped), range.zero_point);
}

inline __m512i load_codes(const uint8_t* x, __mmask16 lanes) {
  return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes, x));
}
inline __m512i load_codes(const int8_t* x, __mmask16 lanes) {
  return _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(lanes, x));
}

/// Codes within their type's range: the low byte of every lane.
inline void store_codes(void* y, __mmask16 lanes, __m512i codes) {
  _mm_mask_storeu_epi8(y, lanes, _mm512_cvtepi32_epi8(codes));
}

/// Calls body(activate) with the function of arith.h's activate as a vector function. kPrelu has one slope.
template <class Body>
inline void with_activation(const ActivationArgs& args, Body body) {
  const __m512 zero = _mm512_setzero_ps();
  const __m512 low = _mm512_set1_ps(args.low);
  const __m512 high = _mm512_set1_ps(args.high);
  const __m512 slope = _mm512_set1_ps(args.kind == Activation::kPrelu ? args.slopes[0] : args.slope);
  switch (args.kind) {
    case Activation::kNone:
      return body([](__m512 t) { return t; });
    case Activation::kClip:
      return body([=](__m512 t) { return _mm512_min_ps(high, _mm512_max_ps(low, t)); });
    case Activation::kLeakyRelu:
    case Activation::kPrelu:
      return body(
          [=](__m512 t) { return _mm512_mask_mul_ps(t, _mm512_cmp_ps_mask(t, zero, _CMP_LT_OQ), t, slope); });
    case Activation::kHardsigmoid: {
      const __m512 offset = _mm512_set1_ps(args.offset);
      return body([=](__m512 t) {
        const __m512 shifted = _mm512_add_ps(_mm512_mul_ps(t, slope), offset);
        return _mm512_min_ps(high, _mm512_max_ps(zero, shifted));
      });
    }
    case Activation::kHardswish: {
      const __m512 half = _mm512_set1_ps(0.5F);
      const __m512 one = _mm512_set1_ps(1.0F);
      return body([=](__m512 t) {
        const __m512 shifted = _mm512_add_ps(_mm512_mul_ps(t, slope), half);
        return _mm512_mul_ps(t, _mm512_min_ps(one, _mm512_max_ps(zero, shifted)));
      });
    }
  }
}

/// The sum of 16 float64 lanes in the order of arith.h's sum_lanes.
inline double sum_lanes(__m512d lanes0to7, __m512d lanes8to15) {
  const __m512d eight = _mm512_add_pd(lanes0to7, lanes8to15);
  const __m256d four = _mm256_add_pd(_mm512_castpd512_pd256(eight), _mm512_extractf64x4_pd(eight, 1));
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

inline __m512d low_to_f64(__m512 x) { return _mm512_cvtps_pd(_mm512_castps512_ps256(x)); }
inline __m512d high_to_f64(__m512 x) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1)); }

inline double sum_lanes(__m512 lanes) { return sum_lanes(low_to_f64(lanes), high_to_f64(lanes)); }

}  // namespace
}  // namespace ptqx::kernels
