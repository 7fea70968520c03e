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

/// grad_factor itself, or LSQ's 1 / sqrt(elements per scale * qmax) where it is 0.
double lsq_factor(double grad_factor, const Tensor& input, const Tensor& scale, int64_t qmax);

}  // namespace ptqx::ops
