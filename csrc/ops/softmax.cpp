// softmax and its logarithm.

#include "kernels/softmax.h"

#include <algorithm>
#include <atomic>

#include "ops/checks.h"
#include "ops/layout.h"
#include "ops/real_or_codes.h"
#include "ops/registration.h"

namespace ptqx::ops {
namespace {

Tensor softmax_meta(const Tensor& input, bool log, const std::optional<Tensor>& output_scale,
                    const std::optional<Tensor>& output_zero_point, int64_t qmin, int64_t qmax) {
  check_real(input, "input");
  TORCH_CHECK_VALUE(input.dim() == 2 || input.dim() == 4,
                    "input must have shape [N, C] or [N, C, H, W], got ", input.sym_sizes());
  TORCH_CHECK_VALUE(!log || !output_scale, "output_scale must not be given with log, whose results are real");
  return real_or_codes(input.sym_sizes(), input, {output_scale, output_zero_point, qmin, qmax});
}

Tensor softmax_cpu(const Tensor& input, bool log, const std::optional<Tensor>& output_scale,
                   const std::optional<Tensor>& output_zero_point, int64_t qmin, int64_t qmax) {
  Tensor output = softmax_meta(input, log, output_scale, output_zero_point, qmin, qmax);
  const std::optional<OutputCodes> codes =
      output_codes({output_scale, output_zero_point, qmin, qmax}, output.scalar_type());
  const Tensor dense = dense_spatial(input.to(at::kFloat));
  const auto* x = dense.const_data_ptr<float>();
  void* y = output.mutable_data_ptr();
  const int64_t channels = input.size(1);
  const int64_t pixels = channels == 0 ? 0 : input.numel() / channels;
  constexpr int64_t kGrain = 4096;  // elements: about 10 microseconds
  std::atomic<int64_t> nonfinite{0};
  at::parallel_for(0, pixels, std::max<int64_t>(kGrain / std::max<int64_t>(channels, 1), 1),
                   [&](int64_t begin, int64_t end) {
                     const int64_t first = begin * channels;
                     nonfinite += codes ? kernels::softmax_u8(x + first, end - begin, channels,
                                                              codes->qparams, codes->qmin, codes->qmax,
                                                              static_cast<uint8_t*>(y) + first)
                                        : kernels::softmax_f32(x + first, end - begin, channels, log,
                                                               static_cast<float*>(y) + first);
                   });
  TORCH_CHECK_VALUE(nonfinite == 0, "input must be finite, got ", nonfinite.load(),
                    " NaN or infinite values of ", input.numel());
  if (codes) finish_codes(output);
  return output;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(ptqx, m) {
  // Over the channels, dimension 1, of each pixel, in float64:
  //   t = float32(exp(input - max) / sum), or float32(input - max - ln(sum))
  // float32, or with output_scale its codes, clamp(round(t / output_scale) + output_zero_point, qmin, qmax)
  m.def(
      "softmax(Tensor input, bool log=False, Tensor? output_scale=None, Tensor? output_zero_point=None, "
      "int qmin=0, int qmax=255) -> Tensor",
      kAnyStrides);
}
TORCH_LIBRARY_IMPL(ptqx, Meta, m) { m.impl("softmax", softmax_meta); }
TORCH_LIBRARY_IMPL(ptqx, CPU, m) { m.impl("softmax", softmax_cpu); }
TORCH_LIBRARY_IMPL(ptqx, Autograd, m) { m.impl("softmax", no_derivative()); }

}  // namespace ptqx::ops
