#include <bit>

#include "kernels/arith.h"
#include "kernels/conv_tail.h"

namespace ptqx::kernels {
namespace {

float scaled_value(const ConvTailArgs& args, int32_t acc, int64_t row, int64_t channel) {
  if (args.scaled) return std::bit_cast<float>(acc);
  float multiplier = args.tail->multiplier[channel];
  if (args.pixel_scale != nullptr) multiplier = args.pixel_scale[row] * multiplier;
  return static_cast<float>(acc) * multiplier;
}

}  // namespace

void conv_tail_scalar(const ConvTailArgs& args, const int32_t* acc, int64_t first, int64_t m, int64_t nr) {
  const Tail& tail = *args.tail;
  for (int64_t i = 0; i < m; ++i) {
    const int64_t place = args.places[first + i] + args.channel;
    for (int64_t j = 0; j < args.channels; ++j) {
      const int64_t channel = args.channel + j;
      const int32_t a = acc[i * nr + j];
      if (tail.output == Output::kS32) {
        static_cast<int32_t*>(args.output)[place + j] = a;
        continue;
      }
      if (tail.output == Output::kU8FixedPoint) {
        static_cast<uint8_t*>(args.output)[place + j] =
            static_cast<uint8_t>(requantize_fixed_point(a, tail, channel));
        continue;
      }
      float t = scaled_value(args, a, first + i, channel);
      if (tail.bias_f32 != nullptr) t = t + tail.bias_f32[channel];
      if (tail.residual != nullptr) {
        const int32_t q = static_cast<int32_t>(tail.residual[place + j]) - tail.residual_zero_point;
        const float r = static_cast<float>(q) * tail.residual_multiplier;
        t = t + r;
      }
      t = activate(t, tail.activation, channel);
      if (tail.output == Output::kF32) {
        static_cast<float*>(args.output)[place + j] = t;
      } else {
        static_cast<uint8_t*>(args.output)[place + j] =
            static_cast<uint8_t>(round_and_clamp(t, tail.output_zero_point, tail.qmin, tail.qmax));
      }
    }
  }
}

}  // namespace ptqx::kernels
