#pragma once

#include <ATen/core/Tensor.h>

namespace ptqx::ops {

// New tensors whose memory, but for small ones, is kept when they die and given to the next one of about
// their size, large ones on huge pages: getting pages from the system takes several times as long as filling
// them, and a network asks for the same sizes again and again. At most kKeptBytes stay unused at a time.

inline constexpr size_t kKeptBytes = size_t{1} << 30;

at::Tensor empty_strided_kept(at::IntArrayRef sizes, at::IntArrayRef strides, at::ScalarType dtype);

/// at::empty_like with another dtype.
at::Tensor empty_like_kept(const at::Tensor& like, at::ScalarType dtype);

}  // namespace ptqx::ops
