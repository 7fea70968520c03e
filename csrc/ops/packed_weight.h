#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <vector>

#include "engine/conv2d.h"
#include "ops/stored_weight.h"

namespace ptqx::ops {

/// The weight of a layer in the layout of its kernel.
struct PackedWeight {
  engine::PackedConv2d conv;
  std::vector<int64_t> magnitudes;  // of each output channel, the sum over its taps of |w - zero_point|;
                                    // empty for a binary weight
};

/// The packed `weight` (int32 zero points, one or one a channel, absent is 0), remembered while its tensors
/// live and are not written to: unpacking and packing take longer than many a layer. At most kPackedBytes are
/// remembered. Any number of threads may ask at a time.
/// Raises c10::ValueError if the layer can't be computed.
std::shared_ptr<const PackedWeight> packed_weight(const engine::Conv2dShape& shape,
                                                  const StoredWeight& weight,
                                                  const std::optional<at::Tensor>& zero_point,
                                                  int64_t group_size);

/// The same of a binary weight: uint8, `signs` signs of every tap in whole dwords, as pack_signs makes them.
std::shared_ptr<const PackedWeight> packed_binary_weight(const engine::Conv2dShape& shape,
                                                         const at::Tensor& weight, int64_t signs);

/// Frees the packed forms of weights that live no more.
void forget_dead_packed_weights();

inline constexpr size_t kPackedBytes = size_t{1} << 30;

}  // namespace ptqx::ops
