#pragma once

// Fake quantization of float32: y = (clamp(round_half_even(x / scale) + zero_point) - zero_point) * scale.
// NaN passes through, infinities saturate, zeros come out positive. Tensors are seen as in quantize.h.

#include "kernels/quantize.h"

namespace ptqx::kernels {

/// How results reach memory.
enum class Store {
  kCached,
  kStreamed,  // past the caches, for results that would not fit in them: saves reading the old lines
};

/// y may be x itself.
using FakeQuantizeFn = void(const float* x, Blocks blocks, const float* scale, const int32_t* zero_point,
                            int32_t qmin, int32_t qmax, float* y, Store store);
FakeQuantizeFn fake_quantize;
std::span<const Row<FakeQuantizeFn>> fake_quantize_rows();

/// Elements summed by one call of fake_quantize_backward; longer runs are cut at multiples of it,
/// whatever the number of threads, and their sums added in ascending order.
inline constexpr int64_t kSumChunk = 4096;

/// One run of at most kSumChunk elements that share a scale, in one pass:
///   dx = dy where qmin <= round(x / scale) + zero_point <= qmax, else 0          (straight-through)
///   sums[0] = sum of dy * ((q - zero_point) - x / scale inside; qmin - zero_point or qmax - zero_point
///   outside) sums[1] = -scale * sum of dy outside                                         (gradient of
///   zero_point)
/// A NaN in x counts as inside, so it reaches sums[0] as y's NaN reaches the loss.
/// The sums are the same bits on every ISA: the term of element i, in float32, goes to float32 lane
/// i % 16, and the 16 lanes are added as a binary tree (i with i + 8, then 4, 2, 1) in float64.
/// A null dx is not written; dx may be dy itself.
using FakeQuantizeBackwardFn = void(const float* dy, const float* x, int64_t n, float scale,
                                    int32_t zero_point, int32_t qmin, int32_t qmax, float* dx, Store store,
                                    double sums[2]);
FakeQuantizeBackwardFn fake_quantize_backward;
std::span<const Row<FakeQuantizeBackwardFn>> fake_quantize_backward_rows();

}  // namespace ptqx::kernels
