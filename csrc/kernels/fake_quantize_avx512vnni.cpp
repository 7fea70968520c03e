#include "kernels/fake_quantize.h"
#include "kernels/simd_avx512.h"

namespace ptqx::kernels {
namespace {

/// Only whole cache lines can be streamed.
inline bool fills_line(const float* y, __mmask16 lanes) {
  return lanes == 0xFFFF && reinterpret_cast<uintptr_t>(y) % 64 == 0;
}

template <Store kStore>
inline void store_f32(float* y, __mmask16 lanes, __m512 value) {
  if (kStore == Store::kStreamed && fills_line(y, lanes)) {
    _mm512_stream_ps(y, value);
  } else {
    _mm512_mask_storeu_ps(y, lanes, value);
  }
}

template <Store kStore>
void forward(const float* x, Blocks blocks, const float* scale, const int32_t* zero_point, int32_t qmin,
             int32_t qmax, float* y) {
  for_each_16(blocks, scale, zero_point, [&](int64_t i, __mmask16 lanes, __m512 step, __m512i zero) {
    const CodeRange range = code_range(zero, qmin, qmax);
    const __m512 real = _mm512_maskz_loadu_ps(lanes, x + i);
    const __m512 t = _mm512_div_ps(real, step);
    const __m512 clamped = _mm512_min_ps(range.high, _mm512_max_ps(range.low, t));
    // By way of int32, which has no -0.
    const __m512 steps = _mm512_cvtepi32_ps(_mm512_cvtps_epi32(clamped));
    const __mmask16 number = _mm512_cmp_ps_mask(real, real, _CMP_ORD_Q);
    store_f32<kStore>(y + i, lanes, _mm512_mask_mul_ps(real, number, steps, step));
  });
}

template <Store kStore>
void backward(const float* dy, const float* x, int64_t n, float scale, int32_t zero_point, int32_t qmin,
              int32_t qmax, float* dx, double sums[2]) {
  const __m512 divisor = _mm512_set1_ps(scale);
  const CodeRange range = code_range(_mm512_set1_epi32(zero_point), qmin, qmax);
  __m512 scale_lanes = _mm512_setzero_ps();
  __m512 outside_lanes = _mm512_setzero_ps();
  // Lanes beyond n have dy = 0 and x = 0: they add a zero, which changes no sum.
  for_each_16(n, [&](int64_t i, __mmask16 lanes) {
    const __m512 grad = _mm512_maskz_loadu_ps(lanes, dy + i);
    const __m512 t = _mm512_div_ps(_mm512_maskz_loadu_ps(lanes, x + i), divisor);
    const __m512 rounded = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __mmask16 below = _mm512_cmp_ps_mask(rounded, range.low, _CMP_LT_OQ);
    const __mmask16 above = _mm512_cmp_ps_mask(rounded, range.high, _CMP_GT_OQ);
    const __mmask16 outside = _kor_mask16(below, above);
    __m512 slope = _mm512_sub_ps(rounded, t);
    slope = _mm512_mask_mov_ps(slope, below, range.low);
    slope = _mm512_mask_mov_ps(slope, above, range.high);
    scale_lanes = _mm512_add_ps(scale_lanes, _mm512_mul_ps(grad, slope));
    outside_lanes = _mm512_mask_add_ps(outside_lanes, outside, outside_lanes, grad);
    if (dx != nullptr) {
      store_f32<kStore>(dx + i, lanes, _mm512_maskz_mov_ps(_knot_mask16(outside), grad));
    }
  });
  sums[0] = sum_lanes(scale_lanes);
  sums[1] = -static_cast<double>(scale) * sum_lanes(outside_lanes);
}

}  // namespace

void fake_quantize_avx512vnni(const float* x, Blocks blocks, const float* scale, const int32_t* zero_point,
                              int32_t qmin, int32_t qmax, float* y, Store store) {
  if (store == Store::kCached) return forward<Store::kCached>(x, blocks, scale, zero_point, qmin, qmax, y);
  forward<Store::kStreamed>(x, blocks, scale, zero_point, qmin, qmax, y);
  _mm_sfence();
}

void fake_quantize_backward_avx512vnni(const float* dy, const float* x, int64_t n, float scale,
                                       int32_t zero_point, int32_t qmin, int32_t qmax, float* dx, Store store,
                                       double sums[2]) {
  if (store == Store::kCached) {
    return backward<Store::kCached>(dy, x, n, scale, zero_point, qmin, qmax, dx, sums);
  }
  backward<Store::kStreamed>(dy, x, n, scale, zero_point, qmin, qmax, dx, sums);
  _mm_sfence();
}

}  // namespace ptqx::kernels
