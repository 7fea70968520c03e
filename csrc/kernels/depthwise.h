#pragma once

// Depthwise convolution: every channel has its own taps. One call makes part of one output row for a
// block of up to 64 channels.

#include <span>

#include "kernels/conv_tail.h"
#include "kernels/dispatch.h"

namespace ptqx::kernels {

constexpr int64_t kDepthwiseChannels = 64;         // of a block of packed weights
constexpr int64_t kDepthwiseWorkBytes = 48 << 10;  // of DepthwiseArgs::work

/// Neighbouring output pixels whose kernel columns [tap_begin, tap_end) lie on the input.
struct DepthwiseSegment {
  int64_t pixels;
  int64_t tap_begin, tap_end;
  const int32_t* init;  // [kDepthwiseChannels] where the accumulators start
};

/// Pixel p, counted over all segments, and kernel column t meet input column
/// first_column + p * stride + t * dilation, which lies in [0, columns) for every t of its segment.
///   acc[p][c] = init[c] + sum over t, over r < 4 * quads of
///       rows[r][column * column_bytes + c] * weights[((t * quads + r / 4) * 64 + c) * 4 + r % 4]
/// A null row counts as zeros. Sums are modulo 2^32.
struct DepthwiseArgs {
  const uint8_t* const* rows;  // [4 * quads] input column 0, first channel of the block
  int64_t quads;
  int64_t columns;
  int64_t column_bytes;
  int64_t first_column;
  int64_t stride, dilation;
  int64_t channels;       // that exist; input beyond them is not read
  const int8_t* weights;  // [kernel_w][quads][64][4], on a cache line
  const DepthwiseSegment* segments;
  int64_t segment_count;
  int32_t* acc;                // [pixels][64]; left undefined if there is a tail
  ConvTailFn* tail = nullptr;  // finishes the accumulators
  const ConvTailArgs* tail_args = nullptr;
  uint8_t* work;  // columns * quads * 256 bytes, on a cache line
};

using DepthwiseFn = void(const DepthwiseArgs& args);

DepthwiseFn depthwise_u8s8_scalar;
DepthwiseFn depthwise_u8s8_avx2;
DepthwiseFn depthwise_u8s8_avx512vnni;

std::span<const Row<DepthwiseFn>> depthwise_u8s8_rows();

}  // namespace ptqx::kernels
