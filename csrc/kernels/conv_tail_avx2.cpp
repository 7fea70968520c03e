#include "kernels/conv_tail_fixed_point.h"
#include "kernels/simd_avx2.h"

namespace ptqx::kernels {
namespace {

constexpr int64_t kLanes = 8;

__m256 clip(__m256 t, __m256 low, __m256 high) { return _mm256_min_ps(high, _mm256_max_ps(low, t)); }

__m256 scale_negative(__m256 t, __m256 slope) {
  const __m256 negative = _mm256_cmp_ps(t, _mm256_setzero_ps(), _CMP_LT_OQ);
  return _mm256_blendv_ps(t, _mm256_mul_ps(t, slope), negative);
}

__m256 activate(__m256 t, const ActivationArgs& args, int64_t channel, int64_t count) {
  const __m256 zero = _mm256_setzero_ps();
  switch (args.kind) {
    case Activation::kNone:
      return t;
    case Activation::kClip:
      return clip(t, _mm256_set1_ps(args.low), _mm256_set1_ps(args.high));
    case Activation::kLeakyRelu:
      return scale_negative(t, _mm256_set1_ps(args.slope));
    case Activation::kPrelu:
      return scale_negative(t, load_f32(args.slopes + channel, count));
    case Activation::kHardsigmoid: {
      const __m256 scaled = _mm256_mul_ps(t, _mm256_set1_ps(args.slope));
      return clip(_mm256_add_ps(scaled, _mm256_set1_ps(args.offset)), zero, _mm256_set1_ps(args.high));
    }
    case Activation::kHardswish: {
      const __m256 scaled = _mm256_mul_ps(t, _mm256_set1_ps(args.slope));
      const __m256 gate = clip(_mm256_add_ps(scaled, _mm256_set1_ps(0.5F)), zero, _mm256_set1_ps(1.0F));
      return _mm256_mul_ps(t, gate);
    }
  }
  return t;
}

}  // namespace

void conv_tail_avx2(const ConvTailArgs& args, const int32_t* acc, int64_t first, int64_t m, int64_t nr) {
  const Tail& tail = *args.tail;
  if (tail.output == Output::kU8FixedPoint) return fixed_point_tail<32>(args, acc, first, m, nr);
  const CodeRange range = code_range(_mm256_set1_epi32(tail.output_zero_point), tail.qmin, tail.qmax);
  for (int64_t j = 0; j < args.channels; j += kLanes) {
    const int64_t count = smaller(args.channels - j, kLanes);
    const int64_t channel = args.channel + j;
    const bool has_multiplier = tail.output != Output::kS32 && !args.scaled;
    const __m256 multiplier =
        has_multiplier ? load_f32(tail.multiplier + channel, count) : _mm256_setzero_ps();
    for (int64_t i = 0; i < m; ++i) {
      const int64_t place = args.places[first + i] + channel;
      const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(acc + i * nr + j));
      if (tail.output == Output::kS32) {
        _mm256_maskstore_epi32(static_cast<int32_t*>(args.output) + place, first_lanes(count), a);
        continue;
      }
      __m256 t;
      if (args.scaled) {
        t = _mm256_castsi256_ps(a);
      } else if (args.pixel_scale != nullptr) {
        t = _mm256_mul_ps(_mm256_cvtepi32_ps(a),
                          _mm256_mul_ps(_mm256_set1_ps(args.pixel_scale[first + i]), multiplier));
      } else {
        t = _mm256_mul_ps(_mm256_cvtepi32_ps(a), multiplier);
      }
      if (tail.bias_f32 != nullptr) t = _mm256_add_ps(t, load_f32(tail.bias_f32 + channel, count));
      if (tail.residual != nullptr) {
        const __m256i q = _mm256_sub_epi32(load_codes(tail.residual + place, count),
                                           _mm256_set1_epi32(tail.residual_zero_point));
        t = _mm256_add_ps(t, _mm256_mul_ps(_mm256_cvtepi32_ps(q), _mm256_set1_ps(tail.residual_multiplier)));
      }
      t = activate(t, tail.activation, channel, count);
      if (tail.output == Output::kF32) {
        store_f32(static_cast<float*>(args.output) + place, count, t);
      } else {
        store_codes(static_cast<uint8_t*>(args.output) + place, count, round_and_clamp(t, range));
      }
    }
  }
}

}  // namespace ptqx::kernels
