#include "kernels/conv_tail_avx512.h"
#include "kernels/conv_tail_fixed_point.h"

namespace ptqx::kernels {
namespace {

constexpr int64_t kLanes = 16;

__m512 clip(__m512 t, __m512 low, __m512 high) { return _mm512_min_ps(high, _mm512_max_ps(low, t)); }

__m512 activate(__m512 t, const ActivationArgs& args, int64_t channel, __mmask16 lanes) {
  const __m512 zero = _mm512_setzero_ps();
  switch (args.kind) {
    case Activation::kNone:
      return t;
    case Activation::kClip:
      return clip(t, _mm512_set1_ps(args.low), _mm512_set1_ps(args.high));
    case Activation::kLeakyRelu: {
      const __mmask16 negative = _mm512_cmp_ps_mask(t, zero, _CMP_LT_OQ);
      return _mm512_mask_mul_ps(t, negative, t, _mm512_set1_ps(args.slope));
    }
    case Activation::kPrelu: {
      const __mmask16 negative = _mm512_cmp_ps_mask(t, zero, _CMP_LT_OQ);
      return _mm512_mask_mul_ps(t, negative, t, _mm512_maskz_loadu_ps(lanes, args.slopes + channel));
    }
    case Activation::kHardsigmoid: {
      const __m512 scaled = _mm512_mul_ps(t, _mm512_set1_ps(args.slope));
      return clip(_mm512_add_ps(scaled, _mm512_set1_ps(args.offset)), zero, _mm512_set1_ps(args.high));
    }
    case Activation::kHardswish: {
      const __m512 scaled = _mm512_mul_ps(t, _mm512_set1_ps(args.slope));
      const __m512 gate = clip(_mm512_add_ps(scaled, _mm512_set1_ps(0.5F)), zero, _mm512_set1_ps(1.0F));
      return _mm512_mul_ps(t, gate);
    }
  }
  return t;
}

/// What the common tail needs: u8 codes, no activation or a clip, one multiplier per channel. The clip and
/// the range of the codes become one pair of bounds, and a NaN becomes the zero point by way of a masked
/// minimum.
bool is_common(const ConvTailArgs& args) {
  const Tail& tail = *args.tail;
  return tail.output == Output::kU8 && !args.scaled && args.pixel_scale == nullptr &&
         (tail.activation.kind == Activation::kNone || tail.activation.kind == Activation::kClip) &&
         tail.qmin <= tail.output_zero_point && tail.output_zero_point <= tail.qmax;
}

struct CommonTail {
  explicit CommonTail(const Tail& t) : tail(t), zero_point(_mm512_set1_epi32(t.output_zero_point)) {
    const CodeRange range = code_range(zero_point, t.qmin, t.qmax);
    low = range.low;
    high = range.high;
    if (t.activation.kind == Activation::kClip) {
      low = clip(_mm512_set1_ps(t.activation.low), range.low, range.high);
      high = clip(_mm512_set1_ps(t.activation.high), range.low, range.high);
    }
  }

  /// Codes less the zero point.
  __m512i rounded(__m512i acc, __m512 multiplier, int64_t channel, int64_t place, __mmask16 lanes) const {
    __m512 t = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), multiplier);
    if (tail.bias_f32 != nullptr) t = _mm512_add_ps(t, _mm512_maskz_loadu_ps(lanes, tail.bias_f32 + channel));
    if (tail.residual != nullptr) t = _mm512_add_ps(t, residual_value(tail, place, lanes));
    const __mmask16 number = _mm512_cmp_ps_mask(t, t, _CMP_ORD_Q);
    return _mm512_cvtps_epi32(_mm512_maskz_min_ps(number, high, _mm512_max_ps(low, t)));
  }

  const Tail& tail;
  __m512i zero_point;
  __m512 low, high;
};

/// NV vectors of 16 channels, the last one perhaps not full.
template <int NV>
void common_tail(const ConvTailArgs& args, const int32_t* acc, int64_t first, int64_t m, int64_t nr) {
  const CommonTail common(*args.tail);
  auto* y = static_cast<uint8_t*>(args.output) + args.channel;
  __m512 multiplier[NV];
  __mmask16 lanes[NV];
#pragma GCC unroll 4
  for (int j = 0; j < NV; ++j) {
    lanes[j] = first_lanes16(args.channels - 16 * j);
    multiplier[j] = _mm512_maskz_loadu_ps(lanes[j], args.tail->multiplier + args.channel + 16 * j);
  }
  for (int64_t i = 0; i < m; ++i, acc += nr) {
    const int64_t place = args.places[first + i];
    __m512i q[NV];
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) {
      q[j] = common.rounded(_mm512_loadu_si512(acc + 16 * j), multiplier[j], args.channel + 16 * j,
                            place + args.channel + 16 * j, lanes[j]);
    }
    if constexpr (NV == 4) {
      // Packing works within 128-bit lanes, so dwords come out of order.
      const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
      const __m512i zero_point = _mm512_packs_epi32(common.zero_point, common.zero_point);
      const __m512i low = _mm512_add_epi16(_mm512_packs_epi32(q[0], q[1]), zero_point);
      const __m512i high = _mm512_add_epi16(_mm512_packs_epi32(q[2], q[3]), zero_point);
      const __m512i codes = _mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high));
      _mm512_mask_storeu_epi8(y + place, first_lanes64(args.channels), codes);
    } else {
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) {
        store_codes(y + place + 16 * j, lanes[j], _mm512_add_epi32(q[j], common.zero_point));
      }
    }
  }
}

template <int Rows, int NV, bool Residual>
void finish_rows(const SaturatingTail<NV, Residual>& tail, const int32_t* acc, int64_t first, int64_t nr) {
  __m512i rows[Rows][NV];
#pragma GCC unroll 4
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) rows[i][j] = _mm512_loadu_si512(acc + i * nr + 16 * j);
  }
  tail.finish(rows, first);
}

template <int NV, bool Residual>
void saturating_tail(const ConvTailArgs& args, const int32_t* acc, int64_t first, int64_t m, int64_t nr) {
  constexpr int kRows = SaturatingTail<NV, Residual>::kPixelsOfPack;
  const SaturatingTail<NV, Residual> tail(args);
  int64_t i = 0;
  for (; i + kRows <= m; i += kRows) finish_rows<kRows>(tail, acc + i * nr, first + i, nr);
  for (; i < m; ++i) finish_rows<1>(tail, acc + i * nr, first + i, nr);
}

template <int NV>
void tail_of(const ConvTailArgs& args, const int32_t* acc, int64_t first, int64_t m, int64_t nr) {
  if (!saturation_clamps(args)) {
    common_tail<NV>(args, acc, first, m, nr);
  } else if (args.tail->residual != nullptr) {
    saturating_tail<NV, true>(args, acc, first, m, nr);
  } else {
    saturating_tail<NV, false>(args, acc, first, m, nr);
  }
}

void any_tail(const ConvTailArgs& args, const int32_t* acc, int64_t first, int64_t m, int64_t nr) {
  const Tail& tail = *args.tail;
  const CodeRange range = code_range(_mm512_set1_epi32(tail.output_zero_point), tail.qmin, tail.qmax);
  for (int64_t j = 0; j < args.channels; j += kLanes) {
    const __mmask16 lanes = first_lanes16(args.channels - j);
    const int64_t channel = args.channel + j;
    if (tail.output == Output::kS32) {
      for (int64_t i = 0; i < m; ++i) {
        int32_t* y = static_cast<int32_t*>(args.output) + args.places[first + i] + channel;
        _mm512_mask_storeu_epi32(y, lanes, _mm512_loadu_si512(acc + i * nr + j));
      }
      continue;
    }
    const __m512 multiplier =
        args.scaled ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(lanes, tail.multiplier + channel);
    for (int64_t i = 0; i < m; ++i) {
      const int64_t place = args.places[first + i] + channel;
      const __m512i a = _mm512_loadu_si512(acc + i * nr + j);
      __m512 t;
      if (args.scaled) {
        t = _mm512_castsi512_ps(a);
      } else if (args.pixel_scale != nullptr) {
        t = _mm512_mul_ps(_mm512_cvtepi32_ps(a),
                          _mm512_mul_ps(_mm512_set1_ps(args.pixel_scale[first + i]), multiplier));
      } else {
        t = _mm512_mul_ps(_mm512_cvtepi32_ps(a), multiplier);
      }
      if (tail.bias_f32 != nullptr) {
        t = _mm512_add_ps(t, _mm512_maskz_loadu_ps(lanes, tail.bias_f32 + channel));
      }
      if (tail.residual != nullptr) t = _mm512_add_ps(t, residual_value(tail, place, lanes));
      t = activate(t, tail.activation, channel, lanes);
      if (tail.output == Output::kF32) {
        _mm512_mask_storeu_ps(static_cast<float*>(args.output) + place, lanes, t);
      } else {
        store_codes(static_cast<uint8_t*>(args.output) + place, lanes, round_and_clamp(t, range));
      }
    }
  }
}

}  // namespace

void conv_tail_avx512vnni(const ConvTailArgs& args, const int32_t* acc, int64_t first, int64_t m,
                          int64_t nr) {
  if (args.tail->output == Output::kU8FixedPoint) return fixed_point_tail<64>(args, acc, first, m, nr);
  if (!is_common(args)) return any_tail(args, acc, first, m, nr);
  switch ((args.channels + kLanes - 1) / kLanes) {
    case 1:
      return tail_of<1>(args, acc, first, m, nr);
    case 2:
      return tail_of<2>(args, acc, first, m, nr);
    case 3:
      return tail_of<3>(args, acc, first, m, nr);
    default:
      return tail_of<4>(args, acc, first, m, nr);
  }
}

}  // namespace ptqx::kernels
