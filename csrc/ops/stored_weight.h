#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace ptqx::ops {

/// A layer's weight as it is stored; kernels get it unpacked and packed anew once (packed_weight.h).
struct StoredWeight {
  /// 8 bits: int8 or uint8 codes in their shape. Fewer: what pack_codes gives.
  at::Tensor codes;
  int64_t bits = 8;
  /// Of the unpacked weight, channels first; none with 8 bits.
  at::OptionalIntArrayRef shape = {};
  /// int8 [1 or out channels, 2^bits]: the values that int8 codes stand for, from the lowest code on.
  std::optional<at::Tensor> levels = {};

  /// Checks all that Meta can see.
  void check() const;
  /// kByte or kChar, of what `unpacked` gives.
  at::ScalarType type() const;
  /// A tensor of shape and type of what `unpacked` gives, perhaps without memory.
  at::Tensor outline() const;
  /// The codes to multiply with, in their shape, contiguous.
  at::Tensor unpacked() const;
};

}  // namespace ptqx::ops
