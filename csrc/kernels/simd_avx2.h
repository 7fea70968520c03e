#pragma once

// What the *_avx2.cpp files share. In an anonymous namespace because an inline function compiled with
// wide flags could become the program's one copy of it.
//
// min and max give their second operand when the operands are equal or one is a NaN, so with the
// bound first they are std::min and std::max of arith.h.

#include <immintrin.h>

#include "kernels/quantize.h"
#include "kernels/types.h"

namespace ptqx::kernels {
namespace {

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/// The sign bits of the first `count` <= 8 lanes.
inline __m256i first_lanes(int64_t count) {
  alignas(64) static const int32_t kLanes[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kLanes + 8 - count));
}

/// Loads and stores of the first `count` lanes, other lanes 0. A count that is the constant 8 costs nothing.
inline __m256 load_f32(const float* x, int64_t count) {
  return count == 8 ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, first_lanes(count));
}
inline void store_f32(float* y, int64_t count, __m256 value) {
  if (count == 8) {
    _mm256_storeu_ps(y, value);
  } else {
    _mm256_maskstore_ps(y, first_lanes(count), value);
  }
}
inline __m256i load_codes(const int32_t* x, int64_t count) {
  return count == 8 ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x))
                    : _mm256_maskload_epi32(x, first_lanes(count));
}
inline __m128i load_bytes(const void* x, int64_t count) {
  if (count == 8) return _mm_loadl_epi64(static_cast<const __m128i*>(x));
  int64_t bytes = 0;
  __builtin_memcpy(&bytes, x, static_cast<size_t>(count));
  return _mm_cvtsi64_si128(bytes);
}
inline __m256i load_codes(const uint8_t* x, int64_t count) {
  return _mm256_cvtepu8_epi32(load_bytes(x, count));
}
inline __m256i load_codes(const int8_t* x, int64_t count) {
  return _mm256_cvtepi8_epi32(load_bytes(x, count));
}

/// The low bytes of eight lanes.
inline __m128i low_bytes(__m256i codes) {
  const __m256i first_of_four =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1));
  const __m256i bytes = _mm256_shuffle_epi8(codes, first_of_four);
  return _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
}
inline void store_codes(void* y, int64_t count, __m256i codes) {
  const __m128i bytes = low_bytes(codes);
  if (count == 8) {
    _mm_storel_epi64(static_cast<__m128i*>(y), bytes);
  } else {
    const int64_t first_bytes = _mm_cvtsi128_si64(bytes);
    __builtin_memcpy(y, &first_bytes, static_cast<size_t>(count));
  }
}

/// op(i, count) for i = 0, 8, 16, ... below n, of which `count` elements are left, at most 8.
template <class Op>
inline void for_each_8(int64_t n, Op op) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) op(i, static_cast<int64_t>(8));
  if (i < n) op(i, n - i);
}

/// op(i, count, scale, zero_point) for consecutive vectors of a blocked tensor.
template <class Op>
inline void for_each_8(Blocks blocks, const float* scale, const int32_t* zero_point, Op op) {
  if (blocks.channels == 1) blocks = {1, 1, blocks.outer * blocks.inner};
  if (blocks.inner >= 8 || blocks.channels == 1) {
    int64_t run = 0;
    for (int64_t outer = 0; outer < blocks.outer; ++outer) {
      for (int64_t channel = 0; channel < blocks.channels; ++channel, run += blocks.inner) {
        const __m256 run_scale = _mm256_set1_ps(scale[channel]);
        const __m256i run_zero_point = _mm256_set1_epi32(zero_point[channel]);
        for_each_8(blocks.inner,
                   [&](int64_t i, int64_t count) { op(run + i, count, run_scale, run_zero_point); });
      }
    }
    return;
  }
  // Several channels a vector: lane i holds channel `channel + (phase + i) / inner`.
  const int64_t row = blocks.channels * blocks.inner;
  if (row == 0) return;
  const int64_t channel_step = 8 / blocks.inner;
  const int64_t phase_step = 8 % blocks.inner;
  const __m256i reciprocal = _mm256_set1_epi32(static_cast<int32_t>(65536 / blocks.inner + 1));
  const __m256i iota = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  for (int64_t outer = 0; outer < blocks.outer; ++outer) {
    int64_t channel = 0;
    int64_t phase = 0;
    for (int64_t i = 0; i < row; i += 8) {
      const __m256i place = _mm256_add_epi32(iota, _mm256_set1_epi32(static_cast<int32_t>(phase)));
      const __m256i index = _mm256_srli_epi32(_mm256_mullo_epi32(place, reciprocal), 16);
      const int64_t channels = smaller(blocks.channels - channel, 8);
      op(outer * row + i, smaller(row - i, 8),
         _mm256_permutevar8x32_ps(load_f32(scale + channel, channels), index),
         _mm256_permutevar8x32_epi32(load_codes(zero_point + channel, channels), index));
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
  __m256 low, high;  // qmin - zero_point, qmax - zero_point
  __m256i zero_point;
};

inline CodeRange code_range(__m256i zero_point, int32_t qmin, int32_t qmax) {
  return {_mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_set1_epi32(qmin), zero_point)),
          _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_set1_epi32(qmax), zero_point)), zero_point};
}

inline __m256i round_and_clamp(__m256 t, const CodeRange& range) {
  const __m256 number = _mm256_and_ps(_mm256_cmp_ps(t, t, _CMP_ORD_Q), t);
  const __m256 clamped = _mm256_min_ps(range.high, _mm256_max_ps(range.low, number));
  return _mm256_add_epi32(_mm256_cvtps_epi32(clamped), range.zero_point);
}

/// Calls body(activate) with the function of arith.h's activate as a vector function. kPrelu has one slope.
template <class Body>
inline void with_activation(const ActivationArgs& args, Body body) {
  const __m256 zero = _mm256_setzero_ps();
  const __m256 low = _mm256_set1_ps(args.low);
  const __m256 high = _mm256_set1_ps(args.high);
  const __m256 slope = _mm256_set1_ps(args.kind == Activation::kPrelu ? args.slopes[0] : args.slope);
  switch (args.kind) {
    case Activation::kNone:
      return body([](__m256 t) { return t; });
    case Activation::kClip:
      return body([=](__m256 t) { return _mm256_min_ps(high, _mm256_max_ps(low, t)); });
    case Activation::kLeakyRelu:
    case Activation::kPrelu:
      return body([=](__m256 t) {
        return _mm256_blendv_ps(t, _mm256_mul_ps(t, slope), _mm256_cmp_ps(t, zero, _CMP_LT_OQ));
      });
    case Activation::kHardsigmoid: {
      const __m256 offset = _mm256_set1_ps(args.offset);
      return body([=](__m256 t) {
        const __m256 shifted = _mm256_add_ps(_mm256_mul_ps(t, slope), offset);
        return _mm256_min_ps(high, _mm256_max_ps(zero, shifted));
      });
    }
    case Activation::kHardswish: {
      const __m256 half = _mm256_set1_ps(0.5F);
      const __m256 one = _mm256_set1_ps(1.0F);
      return body([=](__m256 t) {
        const __m256 shifted = _mm256_add_ps(_mm256_mul_ps(t, slope), half);
        return _mm256_mul_ps(t, _mm256_min_ps(one, _mm256_max_ps(zero, shifted)));
      });
    }
  }
}

inline __m256d low_to_f64(__m256 x) { return _mm256_cvtps_pd(_mm256_castps256_ps128(x)); }
inline __m256d high_to_f64(__m256 x) { return _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)); }

/// The sum of 16 float64 lanes, four a vector, in the order of arith.h's sum_lanes.
inline double sum_lanes(const __m256d (&lanes)[4]) {
  const __m256d four = _mm256_add_pd(_mm256_add_pd(lanes[0], lanes[2]), _mm256_add_pd(lanes[1], lanes[3]));
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

/// The same of 16 float32 lanes, eight a vector.
inline double sum_lanes(const __m256 (&lanes)[2]) {
  const __m256d wide[4] = {low_to_f64(lanes[0]), high_to_f64(lanes[0]), low_to_f64(lanes[1]),
                           high_to_f64(lanes[1])};
  return sum_lanes(wide);
}

}  // namespace
}  // namespace ptqx::kernels
