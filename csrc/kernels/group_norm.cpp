#include "kernels/group_norm.h"

#include <algorithm>
#include <cmath>

namespace ptqx::kernels {

ChannelSumsFn channel_sums_scalar, channel_sums_avx2, channel_sums_avx512vnni;
NormalizeChannelsU8Fn normalize_channels_u8_scalar, normalize_channels_u8_avx2,
    normalize_channels_u8_avx512vnni;

std::span<const Row<ChannelSumsFn>> channel_sums_rows() {
  static constexpr Row<ChannelSumsFn> kRows[] = {
      {"channel_sums_scalar", Isa::kScalar, channel_sums_scalar},
      {"channel_sums_avx2", Isa::kAvx2, channel_sums_avx2},
      {"channel_sums_avx512vnni", Isa::kAvx512Vnni, channel_sums_avx512vnni},
  };
  return kRows;
}

std::span<const Row<NormalizeChannelsU8Fn>> normalize_channels_u8_rows() {
  static constexpr Row<NormalizeChannelsU8Fn> kRows[] = {
      {"normalize_channels_u8_scalar", Isa::kScalar, normalize_channels_u8_scalar},
      {"normalize_channels_u8_avx2", Isa::kAvx2, normalize_channels_u8_avx2},
      {"normalize_channels_u8_avx512vnni", Isa::kAvx512Vnni, normalize_channels_u8_avx512vnni},
  };
  return kRows;
}

void channel_sums(const float* x, int64_t h, int64_t w, int64_t channels, int64_t count, double* sums,
                  double* squares) {
  best_row(channel_sums_rows()).function(x, h, w, channels, count, sums, squares);
}

bool group_statistics(const GroupNormArgs& args, const double* sums, const double* squares, float* mean,
                      float* inverse_deviation) {
  const int64_t group = args.channels / args.groups;
  const auto count = static_cast<double>(group * args.pixels);
  bool finite = true;
  for (int64_t first = 0; first < args.channels; first += group) {
    double sum = 0.0, square = 0.0;
    for (int64_t c = first; c < first + group; ++c) {
      sum += sums[c];
      square += squares[c];
    }
    const double mean_of_group = sum / count;
    const double variance = std::max(square / count - mean_of_group * mean_of_group, 0.0);
    finite = finite && std::isfinite(square);  // a square of float32 is finite in float64
    std::fill_n(mean + first, group, static_cast<float>(mean_of_group));
    std::fill_n(inverse_deviation + first, group, static_cast<float>(1.0 / std::sqrt(variance + args.eps)));
  }
  return finite;
}

void normalize_channels_u8(const float* x, int64_t pixels, const NormalizeChannelsArgs& args, uint8_t* y) {
  best_row(normalize_channels_u8_rows()).function(x, pixels, args, y);
}

void normalize_channels_f32(const float* x, int64_t pixels, const NormalizeChannelsArgs& args, float* y) {
  for (int64_t pixel = 0; pixel < pixels; ++pixel, x += args.channels, y += args.channels) {
    for (int64_t c = 0; c < args.channels; ++c) {
      y[c] = ((x[c] - args.mean[c]) * args.inverse_deviation[c]) * args.weight[c] + args.bias[c];
    }
  }
}

}  // namespace ptqx::kernels
