// layer_norm: over the channels of pixels, from real values to codes or real values.

#include "kernels/layer_norm.h"

#include <algorithm>
#include <atomic>

#include "ops/checks.h"
#include "ops/layout.h"
#include "ops/real_or_codes.h"
#include "ops/registration.h"

namespace ptqx::ops {
namespace {

constexpr int64_t kGrain = 8192;  // elements: about 10 microseconds

Tensor layer_norm_meta(const Tensor& input, const Tensor& weight, const Tensor& bias, double eps,
                       const std::optional<Tensor>& output_scale,
                       const std::optional<Tensor>& output_zero_point, int64_t qmin, int64_t qmax) {
  check_real(input, "input");
  TORCH_CHECK_VALUE(input.dim() == 2 || input.dim() == 4,
                    "input must have shape [N, C] or [N, C, H, W], got ", input.sym_sizes());
  return norm_output(input, weight, bias, eps, {output_scale, output_zero_point, qmin, qmax});
}

Tensor layer_norm_cpu(const Tensor& input, const Tensor& weight, const Tensor& bias, double eps,
                      const std::optional<Tensor>& output_scale,
                      const std::optional<Tensor>& output_zero_point, int64_t qmin, int64_t qmax) {
  Tensor output = layer_norm_meta(input, weight, bias, eps, output_scale, output_zero_point, qmin, qmax);
  const std::optional<OutputCodes> codes =
      output_codes({output_scale, output_zero_point, qmin, qmax}, output.scalar_type());
  const Tensor dense = dense_spatial(input.to(at::kFloat));
  const Tensor weights = weight.contiguous();
  const Tensor biases = bias.contiguous();
  const kernels::LayerNormArgs args = {.channels = input.size(1),
                                       .weight = weights.const_data_ptr<float>(),
                                       .bias = biases.const_data_ptr<float>(),
                                       .eps = eps};
  const float* x = dense.const_data_ptr<float>();
  void* y = output.mutable_data_ptr();
  const int64_t pixels = args.channels == 0 ? 0 : input.numel() / args.channels;
  std::atomic<int64_t> nonfinite{0};
  at::parallel_for(
      0, pixels, std::max<int64_t>(kGrain / std::max<int64_t>(args.channels, 1), 1),
      [&](int64_t begin, int64_t end) {
        const int64_t first = begin * args.channels;
        nonfinite +=
            codes ? kernels::layer_norm_u8(x + first, end - begin, args, codes->qparams, codes->qmin,
                                           codes->qmax, static_cast<uint8_t*>(y) + first)
                  : kernels::layer_norm_f32(x + first, end - begin, args, static_cast<float*>(y) + first);
      });
  TORCH_CHECK_VALUE(nonfinite == 0, "input must be finite, got ", nonfinite.load(),
                    " NaN or infinite values of ", input.numel());
  if (codes) finish_codes(output);
  return output;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(ptqx, m) {
  // Over the channels, dimension 1, of each pixel:
  //   t = ((input - mean) * inverse_deviation) * weight + bias
  // float32, or with output_scale its codes, clamp(round(t / output_scale) + output_zero_point, qmin, qmax)
  m.def(
      "layer_norm(Tensor input, Tensor weight, Tensor bias, float eps, Tensor? output_scale=None, "
      "Tensor? output_zero_point=None, int qmin=0, int qmax=255) -> Tensor",
      kAnyStrides);
}
TORCH_LIBRARY_IMPL(ptqx, Meta, m) { m.impl("layer_norm", layer_norm_meta); }
TORCH_LIBRARY_IMPL(ptqx, CPU, m) { m.impl("layer_norm", layer_norm_cpu); }
TORCH_LIBRARY_IMPL(ptqx, Autograd, m) { m.impl("layer_norm", no_derivative()); }

}  // namespace ptqx::ops
