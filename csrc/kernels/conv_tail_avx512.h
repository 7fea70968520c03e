#pragma once

// The tail of nearly every layer, on accumulators that may still be in registers: u8 codes from 0 on, which
// packing with saturation gives anyway, to whatever is the largest. Sixteen channels a vector, four vectors a
// pack:
//
//   t = float32(acc) * multiplier [+ residual] -> int32 -> int16 + zero_point -> uint8, at most qmax
//
// One pack holds 1 pixel of 64 or 48 channels, 2 of 32 or 4 of 16.

#include <cmath>
#include <utility>

#include "kernels/conv_tail.h"
#include "kernels/simd_avx512.h"

namespace ptqx::kernels {
namespace {

/// Whether codes begin at 0 and neither the activation nor a NaN asks for more than saturation and qmax.
inline bool saturation_clamps(const ConvTailArgs& args) {
  const Tail& tail = *args.tail;
  if (tail.output != Output::kU8 || !args.bounded || args.scaled || args.pixel_scale != nullptr) return false;
  if (tail.bias_f32 != nullptr || tail.qmin != 0) return false;
  if (tail.output_zero_point < 0 || tail.output_zero_point > 255) return false;
  if (tail.activation.kind == Activation::kNone) return true;
  // Rounding is monotone, so a bound that rounds to the last code or beyond changes nothing.
  const auto zero_point = static_cast<float>(tail.output_zero_point);
  return tail.activation.kind == Activation::kClip && std::nearbyint(tail.activation.low) <= -zero_point &&
         std::nearbyint(tail.activation.high) >= static_cast<float>(tail.qmax) - zero_point;
}

inline __m512 residual_value(const Tail& tail, int64_t place, __mmask16 lanes) {
  const __m512i codes = load_codes(tail.residual + place, lanes);
  const __m512i q = _mm512_sub_epi32(codes, _mm512_set1_epi32(tail.residual_zero_point));
  return _mm512_mul_ps(_mm512_cvtepi32_ps(q), _mm512_set1_ps(tail.residual_multiplier));
}

/// NV vectors of channels, the last one perhaps not full, of a tail for which saturation_clamps().
template <int NV, bool Residual>
class SaturatingTail {
 public:
  explicit SaturatingTail(const ConvTailArgs& args)
      : zero_point_(_mm512_set1_epi16(static_cast<int16_t>(args.tail->output_zero_point))),
        largest_(_mm512_set1_epi8(static_cast<char>(args.tail->qmax))),
        places_(args.places),
        output_(static_cast<uint8_t*>(args.output) + args.channel),
        full_(args.channels == 16 * NV),
        pixel_lanes_(first_lanes64(args.channels)) {
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) {
      lanes_[j] = first_lanes16(args.channels - 16 * j);
      multiplier_[j] = _mm512_maskz_loadu_ps(lanes_[j], args.tail->multiplier + args.channel + 16 * j);
    }
    if constexpr (Residual) {
      residual_ = args.tail->residual + args.channel;
      residual_zero_point_ = _mm512_set1_epi32(kResidualZero + args.tail->residual_zero_point);
      residual_multiplier_ = _mm512_set1_ps(args.tail->residual_multiplier);
    }
  }

  static constexpr int kPixelsOfPack = NV == 1 ? 4 : NV == 2 ? 2 : 1;

  /// Rows [0, MR) of a tile whose row 0 is pixel `first`. Indices are template arguments, not loop
  /// variables: only so does GCC leave the accumulators in registers.
  template <int MR>
  [[gnu::always_inline]] void finish(const __m512i (&acc)[MR][NV], int64_t first) const {
    if (Residual && full_) return finish_packs<true>(acc, first);
    finish_packs<false>(acc, first);
  }

 private:
  template <bool Full, int MR>
  [[gnu::always_inline]] void finish_packs(const __m512i (&acc)[MR][NV], int64_t first) const {
    constexpr int kPacks = (MR + kPixelsOfPack - 1) / kPixelsOfPack;
    [&]<int... Pack>(std::integer_sequence<int, Pack...>) __attribute__((always_inline)) {
      (finish_pack<Full, Pack * kPixelsOfPack>(acc, first), ...);
    }
    (std::make_integer_sequence<int, kPacks>());
  }

  template <bool Full, int Row, int MR>
  [[gnu::always_inline]] void finish_pack(const __m512i (&acc)[MR][NV], int64_t first) const {
    if constexpr (NV == 1) {
      pack<Row>({rounded<Full, Row, 0>(acc, first), rounded<Full, Row + 1, 0>(acc, first),
                 rounded<Full, Row + 2, 0>(acc, first), rounded<Full, Row + 3, 0>(acc, first)},
                first, MR);
    } else if constexpr (NV == 2) {
      pack<Row>({rounded<Full, Row, 0>(acc, first), rounded<Full, Row, 1>(acc, first),
                 rounded<Full, Row + 1, 0>(acc, first), rounded<Full, Row + 1, 1>(acc, first)},
                first, MR);
    } else {
      pack<Row>({rounded<Full, Row, 0>(acc, first), rounded<Full, Row, 1>(acc, first),
                 rounded<Full, Row, 2>(acc, first), rounded<Full, Row, 3>(acc, first)},
                first, MR);
    }
  }

  /// Zeros for what the tile lacks.
  template <bool Full, int Row, int Vector, int MR>
  [[gnu::always_inline]] __m512i rounded(const __m512i (&acc)[MR][NV], int64_t first) const {
    if constexpr (Row >= MR || Vector >= NV) {
      return _mm512_setzero_si512();
    } else {
      __m512 t = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[Row][Vector]), multiplier_[Vector]);
      if constexpr (Residual) {
        t = _mm512_add_ps(t, residual<Full>(residual_ + places_[first + Row] + 16 * Vector, lanes_[Vector]));
      }
      return _mm512_cvtps_epi32(t);
    }
  }

  /// Masks of bytes cost an instruction.
  template <bool Full>
  [[gnu::always_inline]] static __m128i residual_codes(const uint8_t* codes, __mmask16 lanes) {
    return Full ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes))
                : _mm_maskz_loadu_epi8(lanes, codes);
  }

#if defined(__AVX512VBMI__)
  // Codes as the last byte of the float 2**23, which is then subtracted with the zero point: exact, and one
  // instruction less than widening and converting.
  static constexpr int32_t kResidualZero = 0x4B000000;

  template <bool Full>
  [[gnu::always_inline]] __m512 residual(const uint8_t* codes, __mmask16 lanes) const {
    const __m512i places = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i bytes = _mm512_castsi128_si512(residual_codes<Full>(codes, lanes));
    const __m512i numbers =
        _mm512_mask_permutexvar_epi8(_mm512_set1_epi32(kResidualZero), 0x1111111111111111, places, bytes);
    const __m512 q = _mm512_sub_ps(_mm512_castsi512_ps(numbers), _mm512_castsi512_ps(residual_zero_point_));
    return _mm512_mul_ps(q, residual_multiplier_);
  }
#else
  static constexpr int32_t kResidualZero = 0;

  template <bool Full>
  [[gnu::always_inline]] __m512 residual(const uint8_t* codes, __mmask16 lanes) const {
    const __m512i q =
        _mm512_sub_epi32(_mm512_cvtepu8_epi32(residual_codes<Full>(codes, lanes)), residual_zero_point_);
    return _mm512_mul_ps(_mm512_cvtepi32_ps(q), residual_multiplier_);
  }
#endif

  struct FourVectors {
    __m512i a, b, c, d;
  };

  /// Packing works within 128-bit lanes, so dwords come out of order.
  template <int Row>
  [[gnu::always_inline]] void pack(const FourVectors& q, int64_t first, int pixels) const {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i low = _mm512_adds_epi16(_mm512_packs_epi32(q.a, q.b), zero_point_);
    const __m512i high = _mm512_adds_epi16(_mm512_packs_epi32(q.c, q.d), zero_point_);
    const __m512i clamped = _mm512_min_epu8(_mm512_packus_epi16(low, high), largest_);
    const __m512i codes = _mm512_permutexvar_epi32(order, clamped);
    [&]<int... K>(std::integer_sequence<int, K...>) __attribute__((always_inline)) {
      (store<K>(codes, first + Row, pixels - Row), ...);
    }
    (std::make_integer_sequence<int, kPixelsOfPack>());
  }

  /// Pixel K of a pack, if it is one of the `pixels` that are left.
  template <int K>
  [[gnu::always_inline]] void store(__m512i codes, int64_t first, int pixels) const {
    if (K >= pixels) return;
    uint8_t* y = output_ + places_[first + K];
    if constexpr (NV == 1) {
      const __m128i x = _mm512_extracti32x4_epi32(codes, K);
      if (full_) return _mm_storeu_si128(reinterpret_cast<__m128i*>(y), x);
      _mm_mask_storeu_epi8(y, lanes_[0], x);
    } else if constexpr (NV == 2) {
      const __m256i x = _mm512_extracti64x4_epi64(codes, K);
      if (full_) return _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), x);
      _mm256_mask_storeu_epi8(y, static_cast<__mmask32>(pixel_lanes_), x);
    } else {
      if (NV == 4 && full_) return _mm512_storeu_si512(y, codes);
      _mm512_mask_storeu_epi8(y, pixel_lanes_, codes);
    }
  }

  // Copies of what is needed: stores of codes may alias anything that is read through a pointer.
  const __m512i zero_point_;
  const __m512i largest_;
  const int64_t* const places_;
  uint8_t* const output_;
  const bool full_;  // no masks needed
  const __mmask64 pixel_lanes_;
  __mmask16 lanes_[NV];
  __m512 multiplier_[NV];
  const uint8_t* residual_;
  __m512i residual_zero_point_;
  __m512 residual_multiplier_;
};

}  // namespace
}  // namespace ptqx::kernels
