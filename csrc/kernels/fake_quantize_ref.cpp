#include "kernels/fake_quantize.h"

#include "kernels/arith.h"

namespace ptqx::kernels {

void fake_quantize_scalar(const float* x, Blocks blocks, const float* scale, const int32_t* zero_point,
                          int32_t qmin, int32_t qmax, float* y, Store /*store*/) {
  int64_t i = 0;
  for (int64_t outer = 0; outer < blocks.outer; ++outer) {
    for (int64_t channel = 0; channel < blocks.channels; ++channel) {
      for (int64_t inner = 0; inner < blocks.inner; ++inner, ++i) {
        y[i] = fake_quantize(x[i], scale[channel], zero_point[channel], qmin, qmax);
      }
    }
  }
}

void fake_quantize_backward_scalar(const float* dy, const float* x, int64_t n, float scale,
                                   int32_t zero_point, int32_t qmin, int32_t qmax, float* dx, Store /*store*/,
                                   double sums[2]) {
  const float low = static_cast<float>(qmin - zero_point);
  const float high = static_cast<float>(qmax - zero_point);
  float scale_lanes[16] = {};
  float outside_lanes[16] = {};
  for (int64_t i = 0; i < n; ++i) {
    const float t = x[i] / scale;
    const float rounded = round_half_even(t);
    const bool outside = rounded < low || rounded > high;
    const float slope = outside ? (rounded < low ? low : high) : rounded - t;
    const float grad = dy[i];
    scale_lanes[i % 16] += grad * slope;
    if (outside) outside_lanes[i % 16] += grad;
    if (dx != nullptr) dx[i] = outside ? 0.0F : grad;
  }
  sums[0] = sum_lanes(scale_lanes);
  sums[1] = -static_cast<double>(scale) * sum_lanes(outside_lanes);
}

}  // namespace ptqx::kernels
