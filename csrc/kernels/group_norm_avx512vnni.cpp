#include "kernels/channel_sums.h"
#include "kernels/simd_avx512.h"

namespace ptqx::kernels {

void channel_sums_avx512vnni(const float* x, int64_t h, int64_t w, int64_t channels, int64_t count,
                             double* sums, double* squares) {
  channel_sums_vectors<64>(x, h, w, channels, count, sums, squares);
}

void normalize_channels_u8_avx512vnni(const float* x, int64_t pixels, const NormalizeChannelsArgs& args,
                                      uint8_t* y) {
  const __m512 scale = _mm512_set1_ps(args.scale);
  const CodeRange range = code_range(_mm512_set1_epi32(args.zero_point), args.qmin, args.qmax);
  for (int64_t pixel = 0; pixel < pixels; ++pixel, x += args.channels, y += args.channels) {
    for_each_16(args.channels, [&](int64_t i, __mmask16 lanes) {
      const auto load = [&](const float* from) { return _mm512_maskz_loadu_ps(lanes, from + i); };
      const __m512 centered = _mm512_sub_ps(load(x), load(args.mean));
      const __m512 weighted =
          _mm512_mul_ps(_mm512_mul_ps(centered, load(args.inverse_deviation)), load(args.weight));
      const __m512 t = _mm512_add_ps(weighted, load(args.bias));
      store_codes(y + i, lanes, round_and_clamp(_mm512_div_ps(t, scale), range));
    });
  }
}

}  // namespace ptqx::kernels
