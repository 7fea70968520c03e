#include <algorithm>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>

#include "engine/conv2d_impl.h"
#include "kernels/winograd.h"

namespace ptqx::engine {
namespace {

using kernels::kDepthwiseChannels;
using kernels::kTileColumns;
using kernels::kTileDwords;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

void require(bool ok, const char* argument, const std::string& expected, int64_t got) {
  if (ok) return;
  throw std::invalid_argument(std::string("conv2d: ") + argument + ": expected " + expected + ", got " +
                              std::to_string(got));
}

void check(const Conv2dShape& s, const int8_t* weight, int64_t group_size) {
  require(s.in_channels > 0, "in_channels", "at least 1", s.in_channels);
  require(s.out_channels > 0, "out_channels", "at least 1", s.out_channels);
  require(s.kernel_h > 0, "kernel_h", "at least 1", s.kernel_h);
  require(s.kernel_w > 0, "kernel_w", "at least 1", s.kernel_w);
  require(s.stride_h > 0, "stride_h", "at least 1", s.stride_h);
  require(s.stride_w > 0, "stride_w", "at least 1", s.stride_w);
  require(s.dilation_h > 0, "dilation_h", "at least 1", s.dilation_h);
  require(s.dilation_w > 0, "dilation_w", "at least 1", s.dilation_w);
  require(s.pad_top >= 0, "pad_top", "at least 0", s.pad_top);
  require(s.pad_left >= 0, "pad_left", "at least 0", s.pad_left);
  require(s.pad_bottom >= 0, "pad_bottom", "at least 0", s.pad_bottom);
  require(s.pad_right >= 0, "pad_right", "at least 0", s.pad_right);
  require(s.groups > 0 && s.in_channels % s.groups == 0 && s.out_channels % s.groups == 0, "groups",
          "a divisor of in_channels = " + std::to_string(s.in_channels) +
              " and out_channels = " + std::to_string(s.out_channels),
          s.groups);
  require(group_size >= 0 && group_size % 4 == 0, "group_size", "0 or a positive multiple of 4", group_size);
  require(group_size == 0 || s.groups == 1, "groups", "1 with group_size > 0", s.groups);
  if (weight == nullptr) throw std::invalid_argument("conv2d: weight: expected a pointer, got null");
}

/// Whether the kernel's scratch holds the input columns of one output pixel at least.
bool depthwise_fits(const Conv2dShape& s) {
  const int64_t column_bytes = ceil_div(s.kernel_h, 4) * kDepthwiseChannels * 4;
  const int64_t most_columns = kernels::kDepthwiseWorkBytes / column_bytes;
  return s.dilation_w <= most_columns && s.dilation_w * (s.kernel_w - 1) + 1 <= most_columns;
}

}  // namespace

AlignedBytes::AlignedBytes(size_t size)
    : size_(size), data_(static_cast<int8_t*>(::operator new(std::max<size_t>(size, 1), kAlignment))) {
  std::memset(data_, 0, size);
}

int64_t PackedConv2d::Impl::slice_end(int64_t slice) const {
  return slice + 1 == slices ? in_group : slice_begin(slice + 1);
}

PackedConv2d::Impl::Impl(const Conv2dShape& s, const int8_t* weight, const int32_t* weight_zero_point,
                         int64_t wanted_group_size, bool is_of_pairs)
    : shape(s), of_pairs(is_of_pairs) {
  check(s, weight, wanted_group_size);
  in_group = s.in_channels / s.groups;
  out_group = s.out_channels / s.groups;
  group_size = wanted_group_size < in_group ? wanted_group_size : 0;
  slices = group_size > 0 ? ceil_div(in_group, group_size) : 1;
  depthwise =
      in_group == 1 && out_group == 1 && s.groups > 1 && weight_zero_point == nullptr && depthwise_fits(s);
  tail = &kernels::best_row(kernels::conv_tail_rows());
  if (depthwise) {
    depthwise_row = &kernels::best_row(kernels::depthwise_u8s8_rows());
    pack_depthwise(weight);
  } else {
    tiles = s.groups == 1 && slices == 1 && weight_zero_point == nullptr &&
            kernels::best_row(kernels::tile_gemm_u8s8_rows()).isa == kernels::Isa::kAmxInt8;
    if (weight_zero_point == nullptr) bundle = groups_of_panel();
    codes_per_byte = weight_zero_point == nullptr && bundle == 1 && fits_4_bits(weight) ? 2 : 1;
    gemm = &kernels::best_row(bundle > 1            ? kernels::gemm_u8s8_groups_rows()
                              : codes_per_byte == 2 ? kernels::gemm_u8s4_rows()
                                                    : kernels::gemm_u8s8_rows());
    pack_pairs(weight);
    pack_dense(weight);
    if (weight_zero_point == nullptr) pack_rows(weight);
    sums_fit_winograd = weight_zero_point == nullptr && sums_fit(kernels::kWinogradSumBits, weight);
  }
  sum_taps(weight, weight_zero_point);
  if (weight_zero_point != nullptr) {
    zero_points.assign(static_cast<size_t>(padded), 0);
    for (int64_t oc = 0; oc < s.out_channels; ++oc) {
      zero_points[static_cast<size_t>(padded_channel(oc))] = weight_zero_point[oc];
    }
    pack_ones();
  }
}

PackedConv2d::Impl::Impl(const Conv2dShape& s, const uint8_t* weight, int64_t signs)
    : shape(s),
      group_size(0),
      depthwise(false),
      in_group(s.in_channels),
      out_group(s.out_channels),
      slices(1),
      binary(true),
      tail(&kernels::best_row(kernels::conv_tail_rows())) {
  const auto* bytes = reinterpret_cast<const int8_t*>(weight);
  check(s, bytes, 0);
  require(s.groups == 1, "groups", "1 for a binary layer", s.groups);
  require(signs > 0 && s.in_channels == ceil_div(signs, 32) * 4, "in_channels",
          "the bytes of " + std::to_string(signs) + " signs in whole dwords", s.in_channels);
  gemm = &kernels::best_row(kernels::gemm_binary_rows());
  pack_dense(bytes);
  tap_sums.assign(static_cast<size_t>(taps() * padded), static_cast<int32_t>(signs));
}

int64_t PackedConv2d::Impl::padded_channel(int64_t oc) const {
  if (depthwise || bundle > 1) return oc;
  return oc / out_group * panels * nr + oc % out_group;
}

int64_t PackedConv2d::Impl::groups_of_panel() const {
  const bool fits = shape.groups > 1 && in_group == out_group && (in_group == 4 || in_group == 8);
  const bool fast = kernels::best_row(kernels::gemm_u8s8_groups_rows()).isa != kernels::Isa::kScalar;
  return fits && fast ? kernels::kGroupsColumns / in_group : 1;
}

bool PackedConv2d::Impl::fits_4_bits(const int8_t* weight) const {
  // Every run of every slice begins at an even dword and has an even number of them.
  const bool even = in_group % 8 == 0 && group_size % 8 == 0;
  if (!even || taps() * in_group / 4 > kernels::kGemmS4Dwords) return false;
  const int64_t codes = shape.out_channels * in_group * taps();
  return std::all_of(weight, weight + codes, [](int8_t code) { return -8 <= code && code < 8; });
}

/// Whether rows of taps begin at whole steps of a matrix unit: where it may be used, unless it is by pairs,
/// and unless filling takes more than half of what the weights do.
bool PackedConv2d::Impl::fills_steps() const {
  const int64_t row = shape.kernel_w * dwords;
  return tiles && pairs == nullptr && shape.dilation_w == 1 &&
         ceil_div(row, kTileDwords) * kTileDwords * 2 <= 3 * row;
}

void PackedConv2d::Impl::pack_dense(const int8_t* weight) {
  dwords = ceil_div(in_group, 4);
  nr = kernels::gemm_panel_width(gemm->isa, bundle * out_group);
  panels = ceil_div(out_group, nr);
  padded = bundles() * panels * nr;
  row_step = shape.kernel_w * dwords;
  if (fills_steps()) row_step = ceil_div(row_step, kTileDwords) * kTileDwords;
  panel_bytes = shape.kernel_h * row_step / codes_per_byte * nr * 4;
  weights = AlignedBytes(static_cast<size_t>(bundles() * panels * panel_bytes + step_slack()));
  for (int64_t oc = 0; oc < shape.out_channels; ++oc) {
    const int64_t channel = padded_channel(oc);
    int8_t* column = weights.data() + channel / nr * panel_bytes + channel % nr * 4;
    const int8_t* w = weight + oc * in_group * taps();
    for (int64_t tap = 0; tap < taps(); ++tap) {
      for (int64_t c = 0; c < in_group; ++c) {
        const int64_t dword = tap_dword(tap / shape.kernel_w, tap % shape.kernel_w) + c / 4;
        const int code = w[c * taps() + tap];
        int8_t& byte = column[dword / codes_per_byte * nr * 4 + c % 4];
        byte = static_cast<int8_t>(codes_per_byte == 1 ? code : byte | (code & 0xF) << dword % 2 * 4);
      }
    }
  }
}

void PackedConv2d::Impl::pack_rows(const int8_t* weight) {
  const int64_t row_bytes = shape.kernel_w * in_group;
  const bool strings = shape.groups == 1 && slices == 1 && shape.dilation_w == 1;
  const bool shorter = ceil_div(row_bytes, 4) < shape.kernel_w * dwords;
  if (!strings || !(shorter || (tiles && in_group % 4 != 0))) return;
  row_dwords = ceil_div(row_bytes, 4);
  string_step = tiles && pairs == nullptr ? ceil_div(row_dwords, kTileDwords) * kTileDwords : row_dwords;
  row_weights = AlignedBytes(static_cast<size_t>(panels * row_panel_bytes() + step_slack()));
  for (int64_t oc = 0; oc < shape.out_channels; ++oc) {
    int8_t* column = row_weights.data() + oc / nr * row_panel_bytes() + oc % nr * 4;
    const int8_t* w = weight + oc * in_group * taps();
    for (int64_t row = 0; row < shape.kernel_h; ++row) {
      for (int64_t byte = 0; byte < row_bytes; ++byte) {
        const int64_t tap = row * shape.kernel_w + byte / in_group;
        column[(row * string_step + byte / 4) * nr * 4 + byte % 4] = w[byte % in_group * taps() + tap];
      }
    }
  }
}

void PackedConv2d::Impl::pack_pairs(const int8_t* weight) {
  const Conv2dShape& s = shape;
  const bool one_line = s.kernel_w > 1 && s.stride_w == 1 && s.dilation_w == 1;
  if (!tiles || !one_line || 2 * s.out_channels > kTileColumns) return;
  Conv2dShape paired = s;
  paired.out_channels *= 2;
  paired.kernel_w += 1;
  paired.stride_w = 2;
  const auto rows = s.out_channels * s.in_channels * s.kernel_h;
  std::vector<int8_t> taps_of_both(static_cast<size_t>(2 * rows * paired.kernel_w), 0);
  for (int64_t second = 0; second < 2; ++second) {
    for (int64_t row = 0; row < rows; ++row) {
      std::copy_n(weight + row * s.kernel_w, s.kernel_w,
                  taps_of_both.begin() + (second * rows + row) * paired.kernel_w + second);
    }
  }
  auto both = std::make_unique<Impl>(paired, taps_of_both.data(), nullptr, 0, true);
  if (both->rows_are_steps()) pairs = std::move(both);
}

void PackedConv2d::Impl::pack_depthwise(const int8_t* weight) {
  dwords = 1;
  nr = kDepthwiseChannels;
  panels = ceil_div(shape.out_channels, nr);
  padded = panels * nr;
  const int64_t quads = ceil_div(shape.kernel_h, 4);
  panel_bytes = shape.kernel_w * quads * nr * 4;
  weights = AlignedBytes(static_cast<size_t>(panels * panel_bytes));
  for (int64_t c = 0; c < shape.out_channels; ++c) {
    int8_t* column = weights.data() + c / nr * panel_bytes + c % nr * 4;
    for (int64_t r = 0; r < shape.kernel_h; ++r) {
      for (int64_t t = 0; t < shape.kernel_w; ++t) {
        column[(t * quads + r / 4) * nr * 4 + r % 4] = weight[c * taps() + r * shape.kernel_w + t];
      }
    }
  }
}

void PackedConv2d::Impl::pack_ones() {
  constexpr int64_t kWidth = 16;
  ones = AlignedBytes(static_cast<size_t>(taps() * dwords * kWidth * 4));
  for (int64_t tap = 0; tap < taps(); ++tap) {
    for (int64_t c = 0; c < in_group; ++c) {
      int8_t* w = ones.data() + (tap * dwords + c / 4) * kWidth * 4 + c % 4;
      for (int64_t j = 0; j < kWidth; ++j) w[j * 4] = 1;
    }
  }
}

void PackedConv2d::Impl::sum_taps(const int8_t* weight, const int32_t* weight_zero_point) {
  tap_sums.assign(static_cast<size_t>(slices * taps() * padded), 0);
  for (int64_t oc = 0; oc < shape.out_channels; ++oc) {
    const int8_t* w = weight + oc * in_group * taps();
    const int32_t zero_point = weight_zero_point != nullptr ? weight_zero_point[oc] : 0;
    for (int64_t slice = 0; slice < slices; ++slice) {
      for (int64_t c = slice_begin(slice); c < slice_end(slice); ++c) {
        for (int64_t tap = 0; tap < taps(); ++tap) {
          tap_sums[static_cast<size_t>((slice * taps() + tap) * padded + padded_channel(oc))] +=
              w[c * taps() + tap] - zero_point;
        }
      }
    }
  }
}

/// Whether sums of products of any codes and a channel's weights are in [-2^bits, 2^bits).
bool PackedConv2d::Impl::sums_fit(int64_t bits, const int8_t* weight) const {
  const int64_t count = in_group * taps();
  for (int64_t oc = 0; oc < shape.out_channels; ++oc) {
    int64_t low = 0, high = 0;
    for (const int8_t w : std::span(weight + oc * count, static_cast<size_t>(count))) {
      (w < 0 ? low : high) += w;
    }
    if (255 * std::max(-low, high) >= int64_t{1} << bits) return false;
  }
  return true;
}

PackedConv2d::PackedConv2d(const Conv2dShape& shape, const int8_t* weight, const int32_t* weight_zero_point,
                           int64_t group_size)
    : impl_(std::make_unique<Impl>(shape, weight, weight_zero_point, group_size)) {}
PackedConv2d::PackedConv2d(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

PackedConv2d PackedConv2d::binary(const Conv2dShape& shape, const uint8_t* weight, int64_t signs) {
  return PackedConv2d(std::make_unique<Impl>(shape, weight, signs));
}

PackedConv2d::~PackedConv2d() = default;
PackedConv2d::PackedConv2d(PackedConv2d&&) noexcept = default;
PackedConv2d& PackedConv2d::operator=(PackedConv2d&&) noexcept = default;

void PackedConv2d::forget_zero_points() {
  if (impl_->binary || impl_->slices > 1 || !impl_->zero_points.empty()) return;  // they need them anyway
  impl_->forget_tap_sums();
  if (impl_->pairs != nullptr) impl_->pairs->forget_tap_sums();
}

const Conv2dShape& PackedConv2d::shape() const { return impl_->shape; }

const char* PackedConv2d::kernel_name() const {
  return impl_->depthwise ? impl_->depthwise_row->name : impl_->gemm->name;
}

bool PackedConv2d::suits_tiles() const { return impl_->tiles; }

bool PackedConv2d::Impl::rows_are_steps() const {
  const bool strings = row_dwords > 0;
  if (shape.dilation_w > 1 || (strings ? string_step : row_step) % kTileDwords != 0) return false;
  return strings || shape.kernel_w == 1 ||
         shape.in_channels % 4 == 0;  // else taps of panels lie further apart
}

size_t PackedConv2d::Impl::bytes() const {
  return weights.size() + row_weights.size() + ones.size() +
         (tap_sums.size() + zero_points.size()) * sizeof(int32_t) + (pairs == nullptr ? 0 : pairs->bytes());
}

size_t PackedConv2d::bytes() const { return impl_->bytes(); }

// The last dword of a pixel's channels, or of a row of taps, or groups that the last bundle lacks.
size_t PackedConv2d::input_slack() const {
  if (impl_->depthwise) return 0;
  if (impl_->bundle > 1) return static_cast<size_t>(impl_->padded - impl_->shape.in_channels);
  const int64_t after_row =
      impl_->row_dwords > 0 ? impl_->row_dwords * 4 - impl_->shape.kernel_w * impl_->in_group : 0;
  return static_cast<size_t>(std::max(impl_->dwords * 4 - impl_->in_group, after_row));
}

}  // namespace ptqx::engine
