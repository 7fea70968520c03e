// fake_quantize and its backward in ATen operations, for devices without kernels of their own: the same
// formulas, so that a model trains on CUDA tensors. Values and straight-through gradients are the CPU
// kernels' bits; sums over elements are taken in the device's order. Qparams are not checked here,
// because that would wait for the device.

#include <ATen/ops/arange.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/floor_divide.h>
#include <ATen/ops/round.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include "ops/fake_quantize.h"
#include "ops/registration.h"

namespace ptqx::ops {
namespace {

/// Index of the scale of each entry along dimension 1.
Tensor group_index(const Tensor& input, int64_t group_size) {
  return at::floor_divide(at::arange(input.size(1), input.options().dtype(at::kLong)), group_size);
}

/// One value a scale, as float32 that broadcasts against input.
Tensor broadcast(const Tensor& values, const Tensor& input, int64_t axis, int64_t group_size) {
  const Tensor floats = values.to(at::kFloat);
  std::vector<int64_t> shape(static_cast<size_t>(input.dim()), 1);
  if (group_size > 0) {
    shape[0] = input.size(0);
    shape[1] = input.size(1);
    return floats.index_select(1, group_index(input, group_size)).view(shape);
  }
  if (values.numel() == 1) return floats.view(shape);
  shape[static_cast<size_t>(axis < 0 ? axis + input.dim() : axis)] = values.numel();
  return floats.view(shape);
}

/// Sums of `terms`, shaped like input, over the elements of each scale.
Tensor sum_per_scale(const Tensor& terms, const Tensor& scale, int64_t axis, int64_t group_size) {
  if (group_size > 0) {
    const Tensor rows = terms.unsqueeze(-1).flatten(2).sum(2, false, at::kDouble);
    return at::zeros(scale.sizes(), rows.options())
        .index_add(1, group_index(terms, group_size), rows)
        .to(at::kFloat);
  }
  if (scale.numel() == 1) return terms.sum(at::kDouble).view(scale.sizes()).to(at::kFloat);
  return terms.movedim(axis, 0).unsqueeze(-1).flatten(1).sum(1, false, at::kDouble).to(at::kFloat);
}

Tensor like(const Tensor& input, const Tensor& values) {
  return values.scalar_type() == input.scalar_type() && values.strides() == input.strides()
             ? values
             : at::empty_like(input).copy_(values);
}

struct Terms {
  Tensor scale, real, low, high;  // float32; real = input / scale, low = qmin - zero_point, high alike
};

Terms terms_of(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t qmin, int64_t qmax,
               int64_t axis, int64_t group_size) {
  const Tensor s = broadcast(scale, input, axis, group_size);
  const Tensor z = at::round(broadcast(zero_point, input, axis, group_size));
  return {
      .scale = s, .real = input.to(at::kFloat).div(s), .low = z.neg().add(qmin), .high = z.neg().add(qmax)};
}

Tensor fake_quantize_composite(const Tensor& input, const Tensor& scale, const Tensor& zero_point,
                               int64_t qmin, int64_t qmax, int64_t axis, int64_t group_size) {
  check_fake_quantize(input, scale, zero_point, qmin, qmax, axis, group_size);
  const Terms t = terms_of(input, scale, zero_point, qmin, qmax, axis, group_size);
  // Adding 0 makes -0 a 0, as whole numbers have it.
  return like(input, at::round(at::clamp(t.real, t.low, t.high)).add(0.0).mul(t.scale));
}

Gradients scaled_backward_composite(const Tensor& grad, const Tensor& input, const Tensor& scale,
                                    const Tensor& zero_point, int64_t qmin, int64_t qmax, double factor,
                                    int64_t axis, int64_t group_size) {
  check_fake_quantize(input, scale, zero_point, qmin, qmax, axis, group_size);
  const Terms t = terms_of(input, scale, zero_point, qmin, qmax, axis, group_size);
  const Tensor dy = grad.to(at::kFloat);
  const Tensor rounded = at::round(t.real);
  const Tensor below = rounded.lt(t.low);
  const Tensor outside = below.logical_or(rounded.gt(t.high));  // a NaN is inside
  const Tensor bound = at::where(below, t.low, t.high);
  const Tensor scale_terms = dy.mul(at::where(outside, bound, rounded.sub(t.real)));
  const Tensor zero_point_terms = at::where(outside, dy, 0.0).mul(t.scale.neg());
  return {like(input, at::where(outside, 0.0, dy)),
          sum_per_scale(scale_terms, scale, axis, group_size).mul(factor),
          sum_per_scale(zero_point_terms, zero_point, axis, group_size).mul(factor)};
}

Gradients fake_quantize_backward_composite(const Tensor& grad, const Tensor& input, const Tensor& scale,
                                           const Tensor& zero_point, int64_t qmin, int64_t qmax, int64_t axis,
                                           int64_t group_size) {
  return scaled_backward_composite(grad, input, scale, zero_point, qmin, qmax, 1.0, axis, group_size);
}

Tensor lsq_composite(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t qmin,
                     int64_t qmax, double /*grad_factor*/, int64_t axis, int64_t group_size) {
  return fake_quantize_composite(input, scale, zero_point, qmin, qmax, axis, group_size);
}

Gradients lsq_backward_composite(const Tensor& grad, const Tensor& input, const Tensor& scale,
                                 const Tensor& zero_point, int64_t qmin, int64_t qmax, double grad_factor,
                                 int64_t axis, int64_t group_size) {
  return scaled_backward_composite(grad, input, scale, zero_point, qmin, qmax,
                                   lsq_factor(grad_factor, input, scale, qmax), axis, group_size);
}

}  // namespace

TORCH_LIBRARY_IMPL(ptqx, CompositeExplicitAutograd, m) {
  m.impl("fake_quantize", fake_quantize_composite);
  m.impl("fake_quantize_backward", fake_quantize_backward_composite);
  m.impl("lsq", lsq_composite);
  m.impl("lsq_backward", lsq_backward_composite);
}

}  // namespace ptqx::ops
