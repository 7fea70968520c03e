#include "kernels/layer_norm.h"
#include "kernels/simd_avx512.h"

namespace ptqx::kernels {

void normalize_u8_avx512vnni(const float* x, int64_t channels, const NormalizeArgs& args, uint8_t* y) {
  const __m512 mean = _mm512_set1_ps(args.mean);
  const __m512 inverse = _mm512_set1_ps(args.inverse_deviation);
  const __m512 scale = _mm512_set1_ps(args.scale);
  const CodeRange range = code_range(_mm512_set1_epi32(args.zero_point), args.qmin, args.qmax);
  for_each_16(channels, [&](int64_t i, __mmask16 lanes) {
    const __m512 centered = _mm512_sub_ps(_mm512_maskz_loadu_ps(lanes, x + i), mean);
    const __m512 weighted =
        _mm512_mul_ps(_mm512_mul_ps(centered, inverse), _mm512_maskz_loadu_ps(lanes, args.weight + i));
    const __m512 t = _mm512_add_ps(weighted, _mm512_maskz_loadu_ps(lanes, args.bias + i));
    store_codes(y + i, lanes, round_and_clamp(_mm512_div_ps(t, scale), range));
  });
}

}  // namespace ptqx::kernels
