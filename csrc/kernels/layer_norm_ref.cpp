#include "kernels/arith.h"
#include "kernels/layer_norm.h"

namespace ptqx::kernels {

void normalize_u8_scalar(const float* x, int64_t channels, const NormalizeArgs& args, uint8_t* y) {
  for (int64_t i = 0; i < channels; ++i) {
    const float t = ((x[i] - args.mean) * args.inverse_deviation) * args.weight[i] + args.bias[i];
    y[i] = static_cast<uint8_t>(quantize(t, args.scale, args.zero_point, args.qmin, args.qmax));
  }
}

}  // namespace ptqx::kernels
