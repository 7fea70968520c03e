// lsq_codes: what lsq gives, divided by the scale: whole numbers, which bfloat16 holds exactly. Its gradients
// are those of lsq for grad / scale: right where the reader multiplies by the scale again, as a constant.

#include <ATen/Parallel.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/round.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/fake_quantize.h"
#include "ops/checks.h"
#include "ops/fake_quantize.h"
#include "ops/kept_memory.h"
#include "ops/registration.h"

namespace ptqx::ops {
namespace {

// ---- shape ----

void check_lsq_codes(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t qmin,
                     int64_t qmax) {
  TORCH_CHECK_VALUE(scale.sym_numel() == 1 && zero_point.sym_numel() == 1,
                    "scale and zero_point must have one element, got shapes ", scale.sym_sizes(), " and ",
                    zero_point.sym_sizes());
  check_fake_quantize(input, scale, zero_point, qmin, qmax, 0, 0);
}

Tensor lsq_codes_meta(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t qmin,
                      int64_t qmax, double /*grad_factor*/) {
  check_lsq_codes(input, scale, zero_point, qmin, qmax);
  return at::empty_like(input);
}

// ---- any device ----

Tensor lsq_codes_composite(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t qmin,
                           int64_t qmax, double /*grad_factor*/) {
  check_lsq_codes(input, scale, zero_point, qmin, qmax);
  const Tensor zero = at::round(zero_point.to(at::kFloat)).reshape({});
  const Tensor steps =
      at::clamp(input.to(at::kFloat).div(scale.reshape({})), zero.neg().add(qmin), zero.neg().add(qmax));
  return at::empty_like(input).copy_(at::round(steps).add(0.0));
}

// ---- CPU ----

template <class Real>
void fill_codes(const Tensor& input, const Tensor& output, float scale, int32_t zero_point, int32_t qmin,
                int32_t qmax) {
  constexpr int64_t kPiece = 4096;  // elements, as float32 in the L1 cache
  constexpr float kOne = 1.0F;
  const Real* x = input.const_data_ptr<Real>();
  Real* y = output.mutable_data_ptr<Real>();
  at::parallel_for(0, (input.numel() + kPiece - 1) / kPiece, 4, [&](int64_t begin, int64_t end) {
    alignas(64) float steps[kPiece];
    for (int64_t first = begin * kPiece; first < std::min(end * kPiece, input.numel()); first += kPiece) {
      const int64_t count = std::min(kPiece, input.numel() - first);
      for (int64_t i = 0; i < count; ++i) steps[i] = static_cast<float>(x[first + i]) / scale;
      kernels::fake_quantize(steps, {1, 1, count}, &kOne, &zero_point, qmin, qmax, steps,
                             kernels::Store::kCached);
      for (int64_t i = 0; i < count; ++i) y[first + i] = static_cast<Real>(steps[i]);
    }
  });
}

Tensor lsq_codes_cpu(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t qmin,
                     int64_t qmax, double grad_factor) {
  check_lsq_codes(input, scale, zero_point, qmin, qmax);
  check_scale_values(scale, "scale");
  const int32_t zero = whole_zero_points(zero_point, qmin).item<int32_t>();
  if (input.scalar_type() != at::kBFloat16 && input.scalar_type() != at::kFloat) {
    return lsq_codes_composite(input, scale, zero_point, qmin, qmax, grad_factor);
  }
  const Tensor output = empty_like_kept(input, input.scalar_type());
  const Tensor dense = input.strides() == output.strides() ? input : at::empty_like(output).copy_(input);
  const auto fill = input.scalar_type() == at::kFloat ? fill_codes<float> : fill_codes<at::BFloat16>;
  fill(dense, output, scale.item<float>(), zero, static_cast<int32_t>(qmin), static_cast<int32_t>(qmax));
  return output;
}

// ---- gradient ----

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

using LsqCodes = Tensor(const Tensor&, const Tensor&, const Tensor&, int64_t, int64_t, double);
using LsqBackward = Gradients(const Tensor&, const Tensor&, const Tensor&, const Tensor&, int64_t, int64_t,
                              double, int64_t, int64_t);

class LsqCodesFunction : public torch::autograd::Function<LsqCodesFunction> {
 public:
  static Variable forward(AutogradContext* ctx, const Variable& input, const Variable& scale,
                          const Variable& zero_point, int64_t qmin, int64_t qmax, double grad_factor) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    ctx->save_for_backward({input, scale, zero_point});
    ctx->saved_data["qmin"] = qmin;
    ctx->saved_data["qmax"] = qmax;
    ctx->saved_data["grad_factor"] = grad_factor;
    static const auto lsq_codes = find_operator<LsqCodes>("ptqx::lsq_codes");
    return lsq_codes.call(input, scale, zero_point, qmin, qmax, grad_factor);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static const auto backward = find_operator<LsqBackward>("ptqx::lsq_backward");
    const variable_list saved = ctx->get_saved_variables();
    const Tensor& scale = saved[1];
    auto [grad_input, grad_scale, grad_zero_point] = backward.call(
        grads[0].div(scale.reshape_symint({})), saved[0], scale, saved[2], ctx->saved_data["qmin"].toInt(),
        ctx->saved_data["qmax"].toInt(), ctx->saved_data["grad_factor"].toDouble(), 0, 0);
    if (!saved[2].is_floating_point()) grad_zero_point = Variable();
    return {grad_input, grad_scale, grad_zero_point, Variable(), Variable(), Variable()};
  }
};

Tensor lsq_codes_autograd(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t qmin,
                          int64_t qmax, double grad_factor) {
  return LsqCodesFunction::apply(input, scale, zero_point, qmin, qmax, grad_factor);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(ptqx, m) {
  // clamp(round(input / scale) + zero_point, qmin, qmax) - zero_point, per tensor, in input's type.
  m.def(
      "lsq_codes(Tensor input, Tensor scale, Tensor zero_point, int qmin, int qmax, float grad_factor=0.) "
      "-> Tensor",
      kExactStrides);
}
TORCH_LIBRARY_IMPL(ptqx, Meta, m) { m.impl("lsq_codes", lsq_codes_meta); }
TORCH_LIBRARY_IMPL(ptqx, CPU, m) { m.impl("lsq_codes", lsq_codes_cpu); }
TORCH_LIBRARY_IMPL(ptqx, CompositeExplicitAutograd, m) { m.impl("lsq_codes", lsq_codes_composite); }
TORCH_LIBRARY_IMPL(ptqx, Autograd, m) { m.impl("lsq_codes", lsq_codes_autograd); }

}  // namespace ptqx::ops
