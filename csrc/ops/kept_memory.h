#pragma once

#include <ATen/core/Tensor.h>

namespace ptqx::ops {

/// at::empty_like with another dtype. Large tensors lie on huge pages, in memory that is kept when a tensor
/// dies and given to the next one of about its size: getting pages from the system takes several times as
/// long as filling them, and a training step asks for the same sizes again and again. At most kKeptBytes
/// stay unused at a time.
at::Tensor empty_like_kept(const at::Tensor& like, at::ScalarType dtype);

inline constexpr size_t kKeptBytes = size_t{1} << 30;

}  // namespace ptqx::ops
