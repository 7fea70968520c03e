#pragma once

// What the CPU kernels, the composite fallback and the derivatives of fake_quantize share.

#include <ATen/core/Tensor.h>

#include <tuple>

namespace ptqx::ops {

using at::Tensor;
/// Of input, scale and zero_point.
using Gradients = std::tuple<Tensor, Tensor, Tensor>;

void check_fake_quantize(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t qmin,
                         int64_t qmax, int64_t axis, int64_t group_size);

/// It has input's shape.
void check_grad(const Tensor& grad, const Tensor& input);

/// grad_factor itself, or LSQ's 1 / sqrt(elements per scale * qmax) where it is 0.
double lsq_factor(double grad_factor, const Tensor& input, const Tensor& scale, int64_t qmax);

/// int32 zero points, checked; float ones are rounded half to even.
Tensor whole_zero_points(const Tensor& zero_point, int64_t qmin);

Tensor fake_quantize_cpu(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t qmin,
                         int64_t qmax, int64_t axis, int64_t group_size);

/// The gradients of scale and zero point are multiplied by `factor`.
Gradients fake_quantize_backward_cpu(const Tensor& grad, const Tensor& input, const Tensor& scale,
                                     const Tensor& zero_point, int64_t qmin, int64_t qmax, double factor,
                                     int64_t axis, int64_t group_size);

}  // namespace ptqx::ops
