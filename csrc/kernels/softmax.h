#pragma once

// Softmax of rows, the same bits on every ISA.

#include <cstdint>
#include <span>

#include "kernels/dispatch.h"

namespace ptqx::kernels {

/// The sum of exp(x[i] - largest), float64 (16 lanes: element i to lane i % 16, then arith.h's sum_lanes).
using ExpSumFn = double(const float* x, int64_t n, double largest);
std::span<const Row<ExpSumFn>> exp_sum_rows();

/// y[i] = float32(exp(x[i] - largest) / that sum).
using SoftmaxRowFn = void(const float* x, int64_t n, double largest, float* y);
std::span<const Row<SoftmaxRowFn>> softmax_row_rows();

/// Softmax of each of `rows` rows of `classes` numbers, or its logarithm, in float64:
///   shifted = x - max, sum = sum of exp(shifted)
///   y = float32(exp(shifted) / sum), or float32(shifted - log(sum))
/// exp and log are written here, because those of C libraries differ in their last bits. Returns how many x
/// are not finite; y is of no use then.
int64_t softmax_f32(const float* x, int64_t rows, int64_t classes, bool log, float* y);

/// The same to codes: clamp(round_half_even(y / scale) + zero_point, qmin, qmax).
int64_t softmax_u8(const float* x, int64_t rows, int64_t classes, QParams output, int32_t qmin, int32_t qmax,
                   uint8_t* y);

}  // namespace ptqx::kernels
