// softmax and its logarithm.

#include "kernels/softmax.h"

#include <algorithm>

#include "ops/checks.h"
#include "ops/layout.h"
#include "ops/registration.h"
#include "ops/statistics.h"

namespace ptqx::ops {
namespace {

Tensor softmax_meta(const Tensor& input, bool /*log*/) {
  check_real(input, "input");
  TORCH_CHECK_VALUE(input.dim() == 2, "input must have shape [N, classes], got ", input.sym_sizes());
  return empty_spatial(input.sym_sizes(), input, at::kFloat);
}

Tensor softmax_cpu(const Tensor& input, bool log) {
  Tensor output = softmax_meta(input, log);
  const Tensor dense = input.to(at::kFloat).contiguous();
  check_finite(dense);
  const auto* x = dense.const_data_ptr<float>();
  auto* y = output.mutable_data_ptr<float>();
  const int64_t classes = input.size(1);
  constexpr int64_t kGrain = 512;  // elements: about 10 microseconds
  at::parallel_for(
      0, classes == 0 ? 0 : input.size(0), std::max<int64_t>(kGrain / std::max<int64_t>(classes, 1), 1),
      [&](int64_t begin, int64_t end) {
        kernels::softmax_f32(x + begin * classes, end - begin, classes, log, y + begin * classes);
      });
  return output;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(ptqx, m) {
  // Of each row, float32(exp(input - max) / sum), or float32(input - max - ln(sum)), in float64.
  m.def("softmax(Tensor input, bool log=False) -> Tensor", kAnyStrides);
}
TORCH_LIBRARY_IMPL(ptqx, Meta, m) { m.impl("softmax", softmax_meta); }
TORCH_LIBRARY_IMPL(ptqx, CPU, m) { m.impl("softmax", softmax_cpu); }
TORCH_LIBRARY_IMPL(ptqx, Autograd, m) { m.impl("softmax", no_derivative()); }

}  // namespace ptqx::ops
