#pragma once

// From accumulators to outputs: the Tail of types.h applied to a block of pixels x channels.

#include <span>

#include "kernels/dispatch.h"
#include "kernels/types.h"

namespace ptqx::kernels {

struct ConvTailArgs {
  /// The accumulators hold the bias already, so `tail->bias` is not read.
  const Tail* tail;
  int64_t channel;        // first output channel of the block
  int64_t channels;       // how many of them exist, at most 64; the rest of a row of accumulators is filling
  const int64_t* places;  // [m] where each pixel's output channel 0 lies in output and residual
  const float* pixel_scale;  // [m], null for 1: multiplier[c] becomes pixel_scale[m] * multiplier[c]
  void* output;              // by tail->output
  bool scaled;               // the accumulators are float32 values, multiplied already
  bool bounded = false;      // tail_is_bounded(): |t| stays below 2^31 whatever the accumulators
};

/// Whether constants alone keep t, before its activation, a number below 2^31 in magnitude. Then rounding
/// can be a plain conversion to int32.
bool tail_is_bounded(const Tail& tail, int64_t channels);

/// Finishes rows [first, first + m) of the block; `acc` is [m][nr] and starts with row `first`. With
/// args.scaled, the bits of `acc` are those of float32 values.
using ConvTailFn = void(const ConvTailArgs& args, const int32_t* acc, int64_t first, int64_t m, int64_t nr);

ConvTailFn conv_tail_scalar;
ConvTailFn conv_tail_avx2;
ConvTailFn conv_tail_avx512vnni;

std::span<const Row<ConvTailFn>> conv_tail_rows();

}  // namespace ptqx::kernels
