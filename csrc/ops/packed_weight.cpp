#include "ops/packed_weight.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <stdexcept>

#include "kernels/dispatch.h"
#include "ops/checks.h"
#include "ops/tensor_cache.h"

namespace ptqx::ops {
namespace {

/// int8 values: a uint8 w becomes w - 128.
std::vector<int8_t> signed_values(const StoredWeight& weight) {
  const at::Tensor dense = weight.unpacked();
  const auto* bytes = static_cast<const uint8_t*>(dense.const_data_ptr());
  const uint8_t flip = weight.type() == at::kByte ? 0x80 : 0;
  std::vector<int8_t> values(static_cast<size_t>(dense.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int8_t>(bytes[i] ^ flip);
  return values;
}

/// One each of `channels` for the signed values; empty where all are 0.
std::vector<int32_t> signed_zero_points(const StoredWeight& weight,
                                        const std::optional<at::Tensor>& zero_point, int64_t channels) {
  std::vector<int32_t> values(static_cast<size_t>(channels), 0);
  if (zero_point) {
    check_zero_point_values(*zero_point, "weight_zero_point", weight.type());
    const at::Tensor dense = zero_point->contiguous();
    const int32_t* given = dense.const_data_ptr<int32_t>();
    for (size_t i = 0; i < values.size(); ++i) values[i] = given[dense.numel() == 1 ? 0 : i];
  }
  if (weight.type() == at::kByte) {
    for (int32_t& value : values) value -= 128;
  }
  const bool symmetric = std::all_of(values.begin(), values.end(), [](int32_t z) { return z == 0; });
  if (symmetric) values.clear();
  return values;
}

std::vector<int64_t> magnitudes_of(const std::vector<int8_t>& weight, const std::vector<int32_t>& zero_points,
                                   int64_t channels) {
  std::vector<int64_t> sums(static_cast<size_t>(channels), 0);
  const size_t taps = weight.size() / sums.size();
  for (size_t o = 0; o < sums.size(); ++o) {
    const int32_t zero_point = zero_points.empty() ? 0 : zero_points[o];
    for (size_t k = o * taps; k < (o + 1) * taps; ++k) sums[o] += std::abs(weight[k] - zero_point);
  }
  return sums;
}

/// What the packed form depends on beside the weight itself.
struct Key {
  std::array<int64_t, sizeof(engine::Conv2dShape) / sizeof(int64_t)> shape;
  std::vector<int32_t> zero_points;
  int64_t group_size;
  int64_t bits;
  std::optional<TensorIdentity> levels;
  int64_t signs;  // of a binary weight's input channel; else 0
  kernels::Isa isa;
  bool operator==(const Key&) const = default;
};

using Cache = TensorCache<Key, std::shared_ptr<const PackedWeight>>;

Cache& cache() {
  static Cache packed(kPackedBytes);
  return packed;
}

/// What is remembered of `weight`, or what `make` makes of it, remembered from now on.
template <typename Make>
std::shared_ptr<const PackedWeight> remembered(const at::Tensor& weight, const Key& key, const Make& make) {
  const TensorIdentity identity(weight);
  if (const auto known = cache().find(identity, key)) return *known;
  std::shared_ptr<const PackedWeight> packed;
  try {
    packed = std::make_shared<const PackedWeight>(make());
  } catch (const std::invalid_argument& error) {
    TORCH_CHECK_VALUE(false, error.what());
  }
  if (identity.counts_writes() && (!key.levels || key.levels->counts_writes()))
    cache().insert(identity, key, packed, packed->conv.bytes());
  return packed;
}

decltype(Key::shape) shape_key(const engine::Conv2dShape& shape) {
  return std::bit_cast<decltype(Key::shape)>(shape);
}

}  // namespace

void forget_dead_packed_weights() { cache().forget_dead(); }

std::shared_ptr<const PackedWeight> packed_weight(const engine::Conv2dShape& shape,
                                                  const StoredWeight& weight,
                                                  const std::optional<at::Tensor>& zero_point,
                                                  int64_t group_size) {
  const Key key{.shape = shape_key(shape),
                .zero_points = signed_zero_points(weight, zero_point, shape.out_channels),
                .group_size = group_size,
                .bits = weight.bits,
                .levels = weight.levels ? std::optional(TensorIdentity(*weight.levels)) : std::nullopt,
                .signs = 0,
                .isa = kernels::isa_ceiling()};
  return remembered(weight.codes, key, [&] {
    const std::vector<int8_t> values = signed_values(weight);
    const int32_t* zero_points = key.zero_points.empty() ? nullptr : key.zero_points.data();
    return PackedWeight{.conv = {shape, values.data(), zero_points, group_size},
                        .magnitudes = magnitudes_of(values, key.zero_points, shape.out_channels)};
  });
}

std::shared_ptr<const PackedWeight> packed_binary_weight(const engine::Conv2dShape& shape,
                                                         const at::Tensor& weight, int64_t signs) {
  const Key key{.shape = shape_key(shape),
                .zero_points = {},
                .group_size = 0,
                .bits = 1,
                .levels = {},
                .signs = signs,
                .isa = kernels::isa_ceiling()};
  return remembered(weight, key, [&] {
    const at::Tensor filters = weight.contiguous();
    return PackedWeight{.conv = engine::PackedConv2d::binary(shape, filters.const_data_ptr<uint8_t>(), signs),
                        .magnitudes = {}};
  });
}

}  // namespace ptqx::ops
