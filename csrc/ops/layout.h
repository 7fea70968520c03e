#pragma once

// How tensors lie in memory when kernels see them: 4-D ones as NHWC, all others as they read.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include "kernels/quantize.h"

namespace ptqx::ops {

using at::Tensor;

/// Strides [H*W*C, 1, W*C, C] for four sizes, row-major ones for any other number. Written out for
/// every size, 0 and 1 included, so that the shape rule and the result always agree.
c10::SymDimVector spatial_strides(c10::SymIntArrayRef sizes);

/// A new tensor with those strides on the device of `like`.
Tensor empty_spatial(c10::SymIntArrayRef sizes, const Tensor& like, at::ScalarType dtype);

/// `tensor` itself if its elements already lie so, else a copy.
Tensor dense_spatial(const Tensor& tensor);

/// The elements as float32: as they lie in memory if they fill it, else row-major.
Tensor dense_floats(const Tensor& tensor);

/// uint8 codes that lie so. int8 codes q become q + 128, exactly; see zero_point_shift.
Tensor dense_codes(const Tensor& codes);

/// Dense uint8 `codes` behind whose end `bytes` more may be read.
Tensor with_slack(const Tensor& codes, int64_t bytes);

/// What to add to the zero point, qmin and qmax of codes of `type` to have those of uint8 codes.
inline int32_t zero_point_shift(at::ScalarType type) { return type == at::kChar ? 128 : 0; }

/// Turns the uint8 codes that a kernel wrote into the memory of `output` into codes of output's type.
void finish_codes(const Tensor& output);

/// Where each scale applies in the memory of a dense tensor.
struct ScaleLayout {
  kernels::Blocks blocks;  // scales of one element, per channel, or per group of one length
  /// Groups whose last one is shorter: `rows` rows of blocks.channels - 1 groups of blocks.inner
  /// elements and one of `tail`.
  int64_t rows = 0;
  int64_t tail = 0;
};

/// Shape and dtype rules of scale and zero_point: one element; [size of axis]; or, with group_size,
/// [size 0, ceil(size 1 / group_size)].
void check_scale_shape(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t axis,
                       int64_t group_size);

/// For a dense `tensor` (a row-major one if group_size > 0) that passed check_scale_shape.
ScaleLayout scale_layout(const Tensor& tensor, const Tensor& scale, int64_t axis, int64_t group_size);

/// Calls body(offset, blocks, first_scale) on pieces that cover the tensor, in parallel: `blocks` of
/// elements starts at `offset` and uses the scales from `first_scale` on.
template <class Body>
void for_each_block(const ScaleLayout& layout, const Body& body) {
  constexpr int64_t kGrain = 32768;  // elements: about 10 microseconds
  const auto [outer, channels, inner] = layout.blocks;
  const auto units = [](int64_t elements) {
    return std::max<int64_t>(kGrain / std::max<int64_t>(elements, 1), 1);
  };
  if (layout.tail > 0) {
    const int64_t row = (channels - 1) * inner + layout.tail;
    at::parallel_for(0, layout.rows, units(row),
                     [&, channels = channels, inner = inner](int64_t begin, int64_t end) {
                       for (int64_t r = begin; r < end; ++r) {
                         if (channels > 1)
                           body(r * row, kernels::Blocks{1, channels - 1, inner}, r * channels);
                         body(r * row + (channels - 1) * inner, kernels::Blocks{1, 1, layout.tail},
                              r * channels + channels - 1);
                       }
                     });
  } else if (outer > 1) {
    const int64_t row = channels * inner;
    at::parallel_for(0, outer, units(row),
                     [&, channels = channels, inner = inner](int64_t begin, int64_t end) {
                       body(begin * row, kernels::Blocks{end - begin, channels, inner}, 0);
                     });
  } else if (channels > 1) {
    at::parallel_for(0, channels, units(inner), [&, inner = inner](int64_t begin, int64_t end) {
      body(begin * inner, kernels::Blocks{1, end - begin, inner}, begin);
    });
  } else {
    // Pieces begin with a cache line: vectors do not cross lines, and whole lines can be streamed.
    constexpr int64_t kLine = 16;
    const int64_t lines = (inner + kLine - 1) / kLine;
    at::parallel_for(0, lines, kGrain / kLine, [&, inner = inner](int64_t begin, int64_t end) {
      const int64_t first = begin * kLine;
      body(first, kernels::Blocks{1, 1, std::min(end * kLine, inner) - first}, 0);
    });
  }
}

}  // namespace ptqx::ops
