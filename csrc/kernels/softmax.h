#pragma once

#include <cstdint>

namespace ptqx::kernels {

/// Softmax of each of `rows` rows of `classes` finite numbers, or its logarithm, in float64:
///   shifted = x - max, sum = sum of exp(shifted)    (16 lanes: element i to lane i % 16, then arith.h's
///   sum_lanes) y = float32(exp(shifted) / sum), or float32(shifted - log(sum))
/// exp and log are written here, because those of C libraries differ in their last bits.
void softmax_f32(const float* x, int64_t rows, int64_t classes, bool log, float* y);

}  // namespace ptqx::kernels
