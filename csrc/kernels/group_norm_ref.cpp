#include "kernels/arith.h"
#include "kernels/group_norm.h"

namespace ptqx::kernels {

void channel_sums_scalar(const float* x, int64_t h, int64_t w, int64_t channels, int64_t count, double* sums,
                         double* squares) {
  for (int64_t c = 0; c < count; ++c) {
    sums[c] = squares[c] = 0.0;
    for (int64_t row = 0; row < h; ++row) {
      double sum = 0.0, square = 0.0;
      for (int64_t column = 0; column < w; ++column) {
        const double value = x[(row * w + column) * channels + c];
        sum += value;
        square += value * value;
      }
      sums[c] += sum;
      squares[c] += square;
    }
  }
}

void normalize_channels_u8_scalar(const float* x, int64_t pixels, const NormalizeChannelsArgs& args,
                                  uint8_t* y) {
  for (int64_t pixel = 0; pixel < pixels; ++pixel, x += args.channels, y += args.channels) {
    for (int64_t c = 0; c < args.channels; ++c) {
      const float t = ((x[c] - args.mean[c]) * args.inverse_deviation[c]) * args.weight[c] + args.bias[c];
      y[c] = static_cast<uint8_t>(quantize(t, args.scale, args.zero_point, args.qmin, args.qmax));
    }
  }
}

}  // namespace ptqx::kernels
