#include "ops/real_or_codes.h"

#include <cmath>
#include <utility>

#include "ops/checks.h"

namespace ptqx::ops {

Tensor norm_output(const Tensor& input, const Tensor& weight, const Tensor& bias, double eps,
                   const RealOrCodes& output) {
  for (const auto& [tensor, name] : {std::pair(weight, "weight"), std::pair(bias, "bias")}) {
    check_dtype(tensor, name, {at::kFloat});
    TORCH_CHECK_VALUE(tensor.dim() == 1 && tensor.sym_size(0) == input.sym_size(1), name,
                      " must have shape [", input.sym_size(1), "], one number a channel, got ",
                      tensor.sym_sizes());
  }
  TORCH_CHECK_VALUE(eps > 0 && std::isfinite(eps), "eps must be positive and finite, got ", eps);
  return real_or_codes(input.sym_sizes(), input, output);
}

Tensor real_or_codes(c10::SymIntArrayRef sizes, const Tensor& like, const RealOrCodes& output) {
  TORCH_CHECK_VALUE(output.scale.has_value() == output.zero_point.has_value(),
                    "output_scale and output_zero_point must both be given for codes, or neither");
  if (!output.scale) return empty_spatial(sizes, like, at::kFloat);
  check_range(output.qmin, output.qmax);
  check_per_tensor(*output.scale, *output.zero_point, "output_");
  return empty_spatial(sizes, like, code_type(output.qmin));
}

std::optional<OutputCodes> output_codes(const RealOrCodes& output, at::ScalarType type) {
  if (!output.scale) return std::nullopt;
  const int32_t shift = zero_point_shift(type);
  OutputCodes codes{.qparams = per_tensor_qparams(*output.scale, *output.zero_point, "output_", type),
                    .qmin = static_cast<int32_t>(output.qmin) + shift,
                    .qmax = static_cast<int32_t>(output.qmax) + shift};
  codes.qparams.zero_point += shift;
  return codes;
}

}  // namespace ptqx::ops
