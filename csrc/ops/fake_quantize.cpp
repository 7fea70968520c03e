// fake_quantize, lsq and their backwards: the straight-through estimator with gradients of scale and
// zero point (LSQ: Esser et al., ICLR 2020; with a zero point: Bhalgat et al., 2020). On CPU
// fake_quantize_cpu.cpp, elsewhere fake_quantize_composite.cpp; derivatives in fake_quantize_autograd.cpp.

#include "ops/fake_quantize.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <cmath>

#include "ops/checks.h"
#include "ops/layout.h"
#include "ops/registration.h"

namespace ptqx::ops {

void check_fake_quantize(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t qmin,
                         int64_t qmax, int64_t axis, int64_t group_size) {
  check_real(input, "input");
  check_dtype(zero_point, "zero_point", {at::kInt, at::kFloat});
  check_range(qmin, qmax);
  check_scale_shape(input, scale, zero_point, axis, group_size);
}

void check_grad(const Tensor& grad, const Tensor& input) {
  TORCH_CHECK_VALUE(grad.sym_sizes() == input.sym_sizes(), "grad must have input's shape ", input.sym_sizes(),
                    ", got ", grad.sym_sizes());
}

double lsq_factor(double grad_factor, const Tensor& input, const Tensor& scale, int64_t qmax) {
  if (grad_factor != 0.0) return grad_factor;
  const double elements =
      static_cast<double>(input.numel()) / static_cast<double>(std::max<int64_t>(scale.numel(), 1));
  return 1.0 / std::sqrt(std::max(elements, 1.0) * static_cast<double>(std::max<int64_t>(qmax, 1)));
}

namespace {

// ---- shapes ----

Tensor fake_quantize_meta(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t qmin,
                          int64_t qmax, int64_t axis, int64_t group_size) {
  check_fake_quantize(input, scale, zero_point, qmin, qmax, axis, group_size);
  return at::empty_like(input);
}

Gradients fake_quantize_backward_meta(const Tensor& grad, const Tensor& input, const Tensor& scale,
                                      const Tensor& zero_point, int64_t qmin, int64_t qmax, int64_t axis,
                                      int64_t group_size) {
  check_fake_quantize(input, scale, zero_point, qmin, qmax, axis, group_size);
  check_grad(grad, input);
  const auto like = [](const Tensor& qparam) {
    return at::empty_symint(qparam.sym_sizes(), qparam.options().dtype(at::kFloat));
  };
  return {at::empty_like(input), like(scale), like(zero_point)};
}

// ---- CPU ----

Gradients fake_quantize_backward_unscaled(const Tensor& grad, const Tensor& input, const Tensor& scale,
                                          const Tensor& zero_point, int64_t qmin, int64_t qmax, int64_t axis,
                                          int64_t group_size) {
  return fake_quantize_backward_cpu(grad, input, scale, zero_point, qmin, qmax, 1.0, axis, group_size);
}

// ---- lsq: the same numbers, the gradients of scale and zero point times a factor ----

Tensor lsq_meta(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t qmin,
                int64_t qmax, double /*grad_factor*/, int64_t axis, int64_t group_size) {
  return fake_quantize_meta(input, scale, zero_point, qmin, qmax, axis, group_size);
}

Tensor lsq_cpu(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t qmin, int64_t qmax,
               double /*grad_factor*/, int64_t axis, int64_t group_size) {
  return fake_quantize_cpu(input, scale, zero_point, qmin, qmax, axis, group_size);
}

Gradients lsq_backward_meta(const Tensor& grad, const Tensor& input, const Tensor& scale,
                            const Tensor& zero_point, int64_t qmin, int64_t qmax, double /*grad_factor*/,
                            int64_t axis, int64_t group_size) {
  return fake_quantize_backward_meta(grad, input, scale, zero_point, qmin, qmax, axis, group_size);
}

Gradients lsq_backward_cpu(const Tensor& grad, const Tensor& input, const Tensor& scale,
                           const Tensor& zero_point, int64_t qmin, int64_t qmax, double grad_factor,
                           int64_t axis, int64_t group_size) {
  return fake_quantize_backward_cpu(grad, input, scale, zero_point, qmin, qmax,
                                    lsq_factor(grad_factor, input, scale, qmax), axis, group_size);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(ptqx, m) {
  // (clamp(round(input / scale) + zero_point, qmin, qmax) - zero_point) * scale, computed in float32.
  // A float32 zero_point is rounded, and gets a gradient.
  m.def(
      "fake_quantize(Tensor input, Tensor scale, Tensor zero_point, int qmin, int qmax, int axis=0, "
      "int group_size=0) -> Tensor",
      kExactStrides);
  m.def(
      "fake_quantize_backward(Tensor grad, Tensor input, Tensor scale, Tensor zero_point, int qmin, int "
      "qmax, "
      "int axis=0, int group_size=0) -> (Tensor grad_input, Tensor grad_scale, Tensor grad_zero_point)",
      kExactStrides);
  // grad_factor 0 stands for 1 / sqrt(elements per scale * qmax).
  m.def(
      "lsq(Tensor input, Tensor scale, Tensor zero_point, int qmin, int qmax, float grad_factor=0., int "
      "axis=0, "
      "int group_size=0) -> Tensor",
      kExactStrides);
  m.def(
      "lsq_backward(Tensor grad, Tensor input, Tensor scale, Tensor zero_point, int qmin, int qmax, "
      "float grad_factor=0., int axis=0, int group_size=0) "
      "-> (Tensor grad_input, Tensor grad_scale, Tensor grad_zero_point)",
      kExactStrides);
}
TORCH_LIBRARY_IMPL(ptqx, Meta, m) {
  m.impl("fake_quantize", fake_quantize_meta);
  m.impl("fake_quantize_backward", fake_quantize_backward_meta);
  m.impl("lsq", lsq_meta);
  m.impl("lsq_backward", lsq_backward_meta);
}
TORCH_LIBRARY_IMPL(ptqx, CPU, m) {
  m.impl("fake_quantize", fake_quantize_cpu);
  m.impl("fake_quantize_backward", fake_quantize_backward_unscaled);
  m.impl("lsq", lsq_cpu);
  m.impl("lsq_backward", lsq_backward_cpu);
}

}  // namespace ptqx::ops
