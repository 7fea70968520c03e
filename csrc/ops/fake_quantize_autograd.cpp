// Derivatives of fake_quantize and lsq. Forward and backward call operators, so that compilers see both.

#include <torch/csrc/autograd/custom_function.h>

#include "ops/fake_quantize.h"
#include "ops/registration.h"

namespace ptqx::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

using FakeQuantize = Tensor(const Tensor&, const Tensor&, const Tensor&, int64_t, int64_t, int64_t, int64_t);
using FakeQuantizeBackward = Gradients(const Tensor&, const Tensor&, const Tensor&, const Tensor&, int64_t,
                                       int64_t, int64_t, int64_t);
using Lsq = Tensor(const Tensor&, const Tensor&, const Tensor&, int64_t, int64_t, double, int64_t, int64_t);
using LsqBackward = Gradients(const Tensor&, const Tensor&, const Tensor&, const Tensor&, int64_t, int64_t,
                              double, int64_t, int64_t);

/// Saves what both backwards need.
void save(AutogradContext* ctx, const Tensor& input, const Tensor& scale, const Tensor& zero_point,
          int64_t qmin, int64_t qmax, int64_t axis, int64_t group_size) {
  ctx->save_for_backward({input, scale, zero_point});
  ctx->saved_data["qmin"] = qmin;
  ctx->saved_data["qmax"] = qmax;
  ctx->saved_data["axis"] = axis;
  ctx->saved_data["group_size"] = group_size;
}

int64_t saved_int(AutogradContext* ctx, const char* name) { return ctx->saved_data[name].toInt(); }

class FakeQuantizeFunction : public torch::autograd::Function<FakeQuantizeFunction> {
 public:
  static Variable forward(AutogradContext* ctx, const Variable& input, const Variable& scale,
                          const Variable& zero_point, int64_t qmin, int64_t qmax, int64_t axis,
                          int64_t group_size) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    save(ctx, input, scale, zero_point, qmin, qmax, axis, group_size);
    static const auto fake_quantize = find_operator<FakeQuantize>("ptqx::fake_quantize");
    return fake_quantize.call(input, scale, zero_point, qmin, qmax, axis, group_size);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static const auto backward = find_operator<FakeQuantizeBackward>("ptqx::fake_quantize_backward");
    const variable_list saved = ctx->get_saved_variables();
    auto [input, scale, zero_point] =
        backward.call(grads[0], saved[0], saved[1], saved[2], saved_int(ctx, "qmin"), saved_int(ctx, "qmax"),
                      saved_int(ctx, "axis"), saved_int(ctx, "group_size"));
    if (!saved[2].is_floating_point()) zero_point = Variable();
    return {input, scale, zero_point, Variable(), Variable(), Variable(), Variable()};
  }
};

class LsqFunction : public torch::autograd::Function<LsqFunction> {
 public:
  static Variable forward(AutogradContext* ctx, const Variable& input, const Variable& scale,
                          const Variable& zero_point, int64_t qmin, int64_t qmax, double grad_factor,
                          int64_t axis, int64_t group_size) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    save(ctx, input, scale, zero_point, qmin, qmax, axis, group_size);
    ctx->saved_data["grad_factor"] = grad_factor;
    static const auto lsq = find_operator<Lsq>("ptqx::lsq");
    return lsq.call(input, scale, zero_point, qmin, qmax, grad_factor, axis, group_size);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static const auto backward = find_operator<LsqBackward>("ptqx::lsq_backward");
    const variable_list saved = ctx->get_saved_variables();
    auto [input, scale, zero_point] = backward.call(
        grads[0], saved[0], saved[1], saved[2], saved_int(ctx, "qmin"), saved_int(ctx, "qmax"),
        ctx->saved_data["grad_factor"].toDouble(), saved_int(ctx, "axis"), saved_int(ctx, "group_size"));
    if (!saved[2].is_floating_point()) zero_point = Variable();
    return {input, scale, zero_point, Variable(), Variable(), Variable(), Variable(), Variable()};
  }
};

Tensor fake_quantize_autograd(const Tensor& input, const Tensor& scale, const Tensor& zero_point,
                              int64_t qmin, int64_t qmax, int64_t axis, int64_t group_size) {
  return FakeQuantizeFunction::apply(input, scale, zero_point, qmin, qmax, axis, group_size);
}

Tensor lsq_autograd(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t qmin,
                    int64_t qmax, double grad_factor, int64_t axis, int64_t group_size) {
  return LsqFunction::apply(input, scale, zero_point, qmin, qmax, grad_factor, axis, group_size);
}

}  // namespace

TORCH_LIBRARY_IMPL(ptqx, Autograd, m) {
  m.impl("fake_quantize", fake_quantize_autograd);
  m.impl("lsq", lsq_autograd);
  m.impl("fake_quantize_backward", no_derivative());
  m.impl("lsq_backward", no_derivative());
}

}  // namespace ptqx::ops
