#include "kernels/fake_quantize.h"
#include "kernels/simd_avx2.h"

namespace ptqx::kernels {
namespace {

template <Store kStore>
inline void store(float* y, int64_t count, __m256 value) {
  if (kStore == Store::kStreamed && count == 8 && reinterpret_cast<uintptr_t>(y) % 32 == 0) {
    _mm256_stream_ps(y, value);
  } else {
    store_f32(y, count, value);
  }
}

template <Store kStore>
void forward(const float* x, Blocks blocks, const float* scale, const int32_t* zero_point, int32_t qmin,
             int32_t qmax, float* y) {
  for_each_8(blocks, scale, zero_point, [&](int64_t i, int64_t count, __m256 step, __m256i zero) {
    const CodeRange range = code_range(zero, qmin, qmax);
    const __m256 real = load_f32(x + i, count);
    const __m256 t = _mm256_div_ps(real, step);
    const __m256 clamped = _mm256_min_ps(range.high, _mm256_max_ps(range.low, t));
    // By way of int32, which has no -0.
    const __m256 steps = _mm256_cvtepi32_ps(_mm256_cvtps_epi32(clamped));
    const __m256 number = _mm256_cmp_ps(real, real, _CMP_ORD_Q);
    store<kStore>(y + i, count, _mm256_blendv_ps(real, _mm256_mul_ps(steps, step), number));
  });
}

template <Store kStore>
void backward(const float* dy, const float* x, int64_t n, float scale, int32_t zero_point, int32_t qmin,
              int32_t qmax, float* dx, double sums[2]) {
  const __m256 divisor = _mm256_set1_ps(scale);
  const CodeRange range = code_range(_mm256_set1_epi32(zero_point), qmin, qmax);
  __m256 scale_lanes[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  __m256 outside_lanes[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  // Lanes beyond n have dy = 0 and x = 0: they add a zero, which changes no sum.
  const auto step = [&](int half, int64_t i, int64_t count) {
    const __m256 grad = load_f32(dy + i, count);
    const __m256 t = _mm256_div_ps(load_f32(x + i, count), divisor);
    const __m256 rounded = _mm256_round_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256 below = _mm256_cmp_ps(rounded, range.low, _CMP_LT_OQ);
    const __m256 above = _mm256_cmp_ps(rounded, range.high, _CMP_GT_OQ);
    const __m256 outside = _mm256_or_ps(below, above);
    __m256 slope = _mm256_sub_ps(rounded, t);
    slope = _mm256_blendv_ps(slope, range.low, below);
    slope = _mm256_blendv_ps(slope, range.high, above);
    scale_lanes[half] = _mm256_add_ps(scale_lanes[half], _mm256_mul_ps(grad, slope));
    outside_lanes[half] = _mm256_add_ps(outside_lanes[half], _mm256_and_ps(outside, grad));
    if (dx != nullptr) store<kStore>(dx + i, count, _mm256_andnot_ps(outside, grad));
  };
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    step(0, i, 8);
    step(1, i + 8, 8);
  }
  if (i < n) step(0, i, smaller(n - i, 8));
  if (i + 8 < n) step(1, i + 8, n - i - 8);
  sums[0] = sum_lanes(scale_lanes);
  sums[1] = -static_cast<double>(scale) * sum_lanes(outside_lanes);
}

}  // namespace

void fake_quantize_avx2(const float* x, Blocks blocks, const float* scale, const int32_t* zero_point,
                        int32_t qmin, int32_t qmax, float* y, Store store) {
  if (store == Store::kCached) return forward<Store::kCached>(x, blocks, scale, zero_point, qmin, qmax, y);
  forward<Store::kStreamed>(x, blocks, scale, zero_point, qmin, qmax, y);
  _mm_sfence();
}

void fake_quantize_backward_avx2(const float* dy, const float* x, int64_t n, float scale, int32_t zero_point,
                                 int32_t qmin, int32_t qmax, float* dx, Store store, double sums[2]) {
  if (store == Store::kCached) {
    return backward<Store::kCached>(dy, x, n, scale, zero_point, qmin, qmax, dx, sums);
  }
  backward<Store::kStreamed>(dy, x, n, scale, zero_point, qmin, qmax, dx, sums);
  _mm_sfence();
}

}  // namespace ptqx::kernels
