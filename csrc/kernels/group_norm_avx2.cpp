#include "kernels/channel_sums.h"
#include "kernels/simd_avx2.h"

namespace ptqx::kernels {

void channel_sums_avx2(const float* x, int64_t h, int64_t w, int64_t channels, int64_t count, double* sums,
                       double* squares) {
  channel_sums_vectors<32>(x, h, w, channels, count, sums, squares);
}

void normalize_channels_u8_avx2(const float* x, int64_t pixels, const NormalizeChannelsArgs& args,
                                uint8_t* y) {
  const __m256 scale = _mm256_set1_ps(args.scale);
  const CodeRange range = code_range(_mm256_set1_epi32(args.zero_point), args.qmin, args.qmax);
  for (int64_t pixel = 0; pixel < pixels; ++pixel, x += args.channels, y += args.channels) {
    for_each_8(args.channels, [&](int64_t i, int64_t count) {
      const __m256 centered = _mm256_sub_ps(load_f32(x + i, count), load_f32(args.mean + i, count));
      const __m256 normal = _mm256_mul_ps(centered, load_f32(args.inverse_deviation + i, count));
      const __m256 t = _mm256_add_ps(_mm256_mul_ps(normal, load_f32(args.weight + i, count)),
                                     load_f32(args.bias + i, count));
      store_codes(y + i, count, round_and_clamp(_mm256_div_ps(t, scale), range));
    });
  }
}

}  // namespace ptqx::kernels
