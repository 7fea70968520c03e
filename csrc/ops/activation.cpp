// activation: functions of real values that no table of codes can hold.

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "kernels/real_function.h"
#include "ops/checks.h"
#include "ops/layout.h"
#include "ops/registration.h"

namespace ptqx::ops {
namespace {

using kernels::RealFunction;

RealFunction function_of(c10::string_view name) {
  constexpr std::array<std::pair<const char*, RealFunction>, 6> kFunctions = {{
      {"sigmoid", RealFunction::kSigmoid},
      {"silu", RealFunction::kSilu},
      {"tanh", RealFunction::kTanh},
      {"gelu", RealFunction::kGelu},
      {"gelu_tanh", RealFunction::kGeluTanh},
      {"square", RealFunction::kSquare},
  }};
  for (const auto& [known, function] : kFunctions) {
    if (name == known) return function;
  }
  TORCH_CHECK_VALUE(
      false, "function must be 'sigmoid', 'silu', 'tanh', 'gelu', 'gelu_tanh' or 'square', got '", name, "'");
}

Tensor activation_meta(const Tensor& input, c10::string_view function) {
  check_real(input, "input");
  function_of(function);
  return empty_spatial(input.sym_sizes(), input, at::kFloat);
}

Tensor activation_cpu(const Tensor& input, c10::string_view function) {
  Tensor output = activation_meta(input, function);
  const Tensor dense = dense_spatial(input.to(at::kFloat));
  const auto* x = dense.const_data_ptr<float>();
  auto* y = output.mutable_data_ptr<float>();
  constexpr int64_t kGrain = 2048;  // elements: about 10 microseconds
  at::parallel_for(0, input.numel(), kGrain, [&, chosen = function_of(function)](int64_t begin, int64_t end) {
    kernels::real_function_f32(chosen, 0.0, x + begin, end - begin, y + begin);
  });
  return output;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(ptqx, m) {
  // float32(function(input)), computed in float64.
  m.def("activation(Tensor input, str function) -> Tensor", kAnyStrides);
}
TORCH_LIBRARY_IMPL(ptqx, Meta, m) { m.impl("activation", activation_meta); }
TORCH_LIBRARY_IMPL(ptqx, CPU, m) { m.impl("activation", activation_cpu); }
TORCH_LIBRARY_IMPL(ptqx, Autograd, m) { m.impl("activation", no_derivative()); }

}  // namespace ptqx::ops
