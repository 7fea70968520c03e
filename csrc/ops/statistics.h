#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/reduce.h"

namespace ptqx::ops {

/// Minimum, maximum and count of what is not finite, of `count` elements; in parallel.
kernels::MinMax parallel_min_max(const float* x, int64_t count);

/// `input`, dense and float32, holds finite numbers alone.
void check_finite(const at::Tensor& input);

}  // namespace ptqx::ops
