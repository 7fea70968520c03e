#include "kernels/layer_norm.h"

#include <algorithm>
#include <cmath>

#include "kernels/reduce.h"

namespace ptqx::kernels {

NormalizeU8Fn normalize_u8_scalar, normalize_u8_avx2, normalize_u8_avx512vnni;

std::span<const Row<NormalizeU8Fn>> normalize_u8_rows() {
  static constexpr Row<NormalizeU8Fn> kRows[] = {
      {"normalize_u8_scalar", Isa::kScalar, normalize_u8_scalar},
      {"normalize_u8_avx2", Isa::kAvx2, normalize_u8_avx2},
      {"normalize_u8_avx512vnni", Isa::kAvx512Vnni, normalize_u8_avx512vnni},
  };
  return kRows;
}

namespace {

/// Calls normalize(args, pixel) for every pixel, with its mean and deviation; returns how many x are not
/// finite.
template <class Normalize>
int64_t for_each_pixel(const float* x, int64_t pixels, const LayerNormArgs& args, NormalizeArgs normalized,
                       Normalize normalize) {
  MomentsFn* const moments_of = best_row(moments_rows()).function;
  const auto count = static_cast<double>(args.channels);
  int64_t nonfinite = 0;
  for (int64_t pixel = 0; pixel < pixels; ++pixel) {
    const Moments moments = moments_of(x + pixel * args.channels, args.channels);
    const double mean = moments.sum / count;
    const double variance = std::max(moments.sum_of_squares / count - mean * mean, 0.0);
    normalized.mean = static_cast<float>(mean);
    normalized.inverse_deviation = static_cast<float>(1.0 / std::sqrt(variance + args.eps));
    nonfinite += moments.nonfinite;
    normalize(normalized, pixel);
  }
  return nonfinite;
}

}  // namespace

int64_t layer_norm_u8(const float* x, int64_t pixels, const LayerNormArgs& args, QParams output, int32_t qmin,
                      int32_t qmax, uint8_t* y) {
  const NormalizeArgs to = {.mean = 0.0F,
                            .inverse_deviation = 1.0F,
                            .weight = args.weight,
                            .bias = args.bias,
                            .scale = output.scale,
                            .zero_point = output.zero_point,
                            .qmin = qmin,
                            .qmax = qmax};
  NormalizeU8Fn* const normalize = best_row(normalize_u8_rows()).function;
  return for_each_pixel(x, pixels, args, to, [&](const NormalizeArgs& normalized, int64_t pixel) {
    normalize(x + pixel * args.channels, args.channels, normalized, y + pixel * args.channels);
  });
}

int64_t layer_norm_f32(const float* x, int64_t pixels, const LayerNormArgs& args, float* y) {
  return for_each_pixel(x, pixels, args, {}, [&](const NormalizeArgs& normalized, int64_t pixel) {
    const float* from = x + pixel * args.channels;
    float* to = y + pixel * args.channels;
    for (int64_t i = 0; i < args.channels; ++i) {
      to[i] = ((from[i] - normalized.mean) * normalized.inverse_deviation) * args.weight[i] + args.bias[i];
    }
  });
}

}  // namespace ptqx::kernels
