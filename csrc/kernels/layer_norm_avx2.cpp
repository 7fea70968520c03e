#include "kernels/layer_norm.h"
#include "kernels/simd_avx2.h"

namespace ptqx::kernels {

void normalize_u8_avx2(const float* x, int64_t channels, const NormalizeArgs& args, uint8_t* y) {
  const __m256 mean = _mm256_set1_ps(args.mean);
  const __m256 inverse = _mm256_set1_ps(args.inverse_deviation);
  const __m256 scale = _mm256_set1_ps(args.scale);
  const CodeRange range = code_range(_mm256_set1_epi32(args.zero_point), args.qmin, args.qmax);
  for_each_8(channels, [&](int64_t i, int64_t count) {
    const __m256 centered = _mm256_sub_ps(load_f32(x + i, count), mean);
    const __m256 weighted = _mm256_mul_ps(_mm256_mul_ps(centered, inverse), load_f32(args.weight + i, count));
    const __m256 t = _mm256_add_ps(weighted, load_f32(args.bias + i, count));
    store_codes(y + i, count, round_and_clamp(_mm256_div_ps(t, scale), range));
  });
}

}  // namespace ptqx::kernels
