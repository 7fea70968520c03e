#pragma once

// Statistics of float32 runs for observers and dynamic quantization. The results are the same bits
// on every ISA. "Nonfinite" are NaN and infinities.

#include <cstdint>
#include <span>

#include "kernels/dispatch.h"

namespace ptqx::kernels {

struct MinMax {
  float min;          // +inf for an empty run; a zero is +0
  float max;          // -inf for an empty run; a zero is +0
  int64_t nonfinite;  // they do not enter min and max
};
using MinMaxFn = MinMax(const float* x, int64_t n);
MinMaxFn min_max;
std::span<const Row<MinMaxFn>> min_max_rows();

struct Moments {
  double sum;
  double sum_of_squares;
  int64_t nonfinite;  // they do not enter the sums
};
/// Element i goes to float64 lane i % 16; the lanes are added as a binary tree (i with i + 8, then 4, 2, 1).
using MomentsFn = Moments(const float* x, int64_t n);
MomentsFn moments;
std::span<const Row<MomentsFn>> moments_rows();

/// Adds 1 to counts[floor((x - low) * (bins / (high - low)))], in float64, for every finite x in
/// [low, high]; x == high counts in the last bin. Returns how many finite values lay outside.
/// low <= high are finite, 1 <= bins < 2^31.
using HistogramFn = int64_t(const float* x, int64_t n, float low, float high, int64_t* counts, int64_t bins);
HistogramFn histogram;
std::span<const Row<HistogramFn>> histogram_rows();

}  // namespace ptqx::kernels
