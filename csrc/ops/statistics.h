#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/reduce.h"

namespace ptqx::ops {

/// Minimum, maximum and count of what is not finite, of `count` elements; in parallel.
kernels::MinMax parallel_min_max(const float* x, int64_t count);

}  // namespace ptqx::ops
