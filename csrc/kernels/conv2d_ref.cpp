#include "kernels/conv2d_ref.h"

#include <algorithm>

#include "kernels/arith.h"

namespace ptqx::kernels {
namespace {

struct OutputPlace {
  int64_t n, y, x, oc;
};

/// The sum over the group's input channels [c_begin, c_end).
int32_t accumulate(const Conv2dRefShape& s, const OutputPlace& o, const uint8_t* input,
                   int32_t input_zero_point, const int8_t* weight, int32_t weight_zero_point, int64_t c_begin,
                   int64_t c_end) {
  const int64_t in_group = s.in_channels / s.groups;
  const int64_t first_channel = o.oc / (s.out_channels / s.groups) * in_group;
  uint32_t acc = 0;
  for (int64_t r = 0; r < s.kernel_h; ++r) {
    for (int64_t t = 0; t < s.kernel_w; ++t) {
      const int64_t h = o.y * s.stride_h - s.pad_top + r * s.dilation_h;
      const int64_t w = o.x * s.stride_w - s.pad_left + t * s.dilation_w;
      if (h < 0 || h >= s.h || w < 0 || w >= s.w) continue;
      const uint8_t* pixel = input + ((o.n * s.h + h) * s.w + w) * s.in_channels + first_channel;
      for (int64_t c = c_begin; c < c_end; ++c) {
        const int32_t q = weight[((o.oc * in_group + c) * s.kernel_h + r) * s.kernel_w + t];
        acc += static_cast<uint32_t>((pixel[c] - input_zero_point) * (q - weight_zero_point));
      }
    }
  }
  return static_cast<int32_t>(acc);
}

float finish(float t, const Tail& tail, int64_t oc, int64_t index) {
  if (tail.bias_f32 != nullptr) t = t + tail.bias_f32[oc];
  if (tail.residual != nullptr) {
    const int32_t q = static_cast<int32_t>(tail.residual[index]) - tail.residual_zero_point;
    const float r = static_cast<float>(q) * tail.residual_multiplier;
    t = t + r;
  }
  return activate(t, tail.activation, oc);
}

void store(float t, const Tail& tail, int64_t index, void* output) {
  if (tail.output == Output::kF32) {
    static_cast<float*>(output)[index] = t;
  } else {
    static_cast<uint8_t*>(output)[index] =
        static_cast<uint8_t>(round_and_clamp(t, tail.output_zero_point, tail.qmin, tail.qmax));
  }
}

}  // namespace

void conv2d_ref(const Conv2dRefShape& s, const uint8_t* input, const int32_t* input_zero_points,
                const int8_t* weight, const int32_t* weight_zero_points, int64_t group_size, const Tail& tail,
                const float* sample_scale, void* output) {
  const int64_t in_group = s.in_channels / s.groups;
  const int64_t step = group_size > 0 ? group_size : in_group;
  int64_t index = 0;
  for (OutputPlace o{}; o.n < s.n; ++o.n) {
    for (o.y = 0; o.y < s.oh; ++o.y) {
      for (o.x = 0; o.x < s.ow; ++o.x) {
        for (o.oc = 0; o.oc < s.out_channels; ++o.oc, ++index) {
          const int32_t weight_zero_point = weight_zero_points != nullptr ? weight_zero_points[o.oc] : 0;
          float t = 0.0F;
          for (int64_t c = 0; c < in_group; c += step) {
            int32_t acc = accumulate(s, o, input, input_zero_points[o.n], weight, weight_zero_point, c,
                                     std::min(c + step, in_group));
            if (tail.bias != nullptr) {
              acc = static_cast<int32_t>(static_cast<uint32_t>(acc) + static_cast<uint32_t>(tail.bias[o.oc]));
            }
            if (tail.output == Output::kS32) {
              static_cast<int32_t*>(output)[index] = acc;
              continue;
            }
            if (tail.output == Output::kU8FixedPoint) {
              static_cast<uint8_t*>(output)[index] =
                  static_cast<uint8_t>(requantize_fixed_point(acc, tail, o.oc));
              continue;
            }
            float multiplier = tail.multiplier[c / step * s.out_channels + o.oc];
            if (sample_scale != nullptr) multiplier = sample_scale[o.n] * multiplier;
            const float product = static_cast<float>(acc) * multiplier;
            t = c == 0 ? product : t + product;
          }
          if (tail.output == Output::kU8 || tail.output == Output::kF32)
            store(finish(t, tail, o.oc, index), tail, index, output);
        }
      }
    }
  }
}

}  // namespace ptqx::kernels
