#include "engine/conv2d_tiles.h"

#include <algorithm>
#include <array>

namespace ptqx::engine {
namespace {

using kernels::kTileBytes;
using kernels::kTileColumns;
using kernels::kTilePixels;

// Of 2 MiB of second-level cache, which every CPU with such a unit has.
constexpr int64_t kBlockBytes = 768 << 10;
constexpr int64_t kMostSampleBytes = 1 << 20;  // of sixteen
constexpr int64_t kItemsPerThread = 2;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Whether the last items keep all workers busy but for a tenth of the time.
bool shared_out_evenly(int64_t items, int64_t threads) {
  return 10 * ceil_div(items, threads) * threads <= 11 * items;
}

}  // namespace

TileConv::TileConv(ConvGeometry geometry)
    : geometry_(std::move(geometry)),
      layer_(geometry_.layer),
      call_(geometry_.call),
      tile_gemm_(&kernels::best_row(kernels::tile_gemm_u8s8_rows())),
      unpack_(&kernels::best_row(kernels::unpack_panel_s4_rows())) {}

size_t TileConv::scratch_bytes() const {
  const int64_t unpacked =
      unpacks() ? ceil_div(layer_.panels, blocks_) * 2 * layer_.panel_bytes + layer_.step_slack() : 0;
  return static_cast<size_t>(ceil_div(code_bytes_, kTileBytes) * kTileBytes + unpacked) + kAlignment;
}

void TileConv::run(const Conv2dData& data, int64_t begin, int64_t end) const {
  const BlockLease lease(conv2d_scratch());
  uint8_t* codes = (*lease).reserve(scratch_bytes());
  auto* panels = reinterpret_cast<int8_t*>(codes + ceil_div(code_bytes_, kTileBytes) * kTileBytes);
  const kernels::Tail tail = tail_of(call_, data);
  Pixels pixels;
  int64_t unpacked = -1, prepared = -1;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t block = i / chunks_, chunk = i % chunks_;
    const Item item{data, tail, codes, panels, block};
    if (unpacks() && unpacked != block) unpack(unpacked = block, panels);
    if (prepared != chunk) {
      pixels.tile_count = pixels.count = 0;
      prepare(item, prepared = chunk, pixels);
    }
    multiply_chunk(item, chunk, pixels);
  }
}

void TileConv::unpack(int64_t block, int8_t* panels) const {
  const int64_t first = panel_begin(block), count = panel_begin(block + 1) - first;
  unpack_->function(layer_.weights.data() + first * layer_.panel_bytes,
                    count * layer_.panel_bytes / (layer_.nr * 4), layer_.nr, panels);
}

void TileConv::split(int threads, const std::function<int64_t()>& chunks,
                     const std::function<bool()>& smaller) {
  const int64_t wanted = threads > 1 ? threads * kItemsPerThread : 1;
  const int64_t most = std::min(layer_.panels, kMostColumns / layer_.nr);
  int64_t panels = std::clamp<int64_t>(kBlockBytes / (layer_.panel_bytes * layer_.codes_per_byte), 1, most);
  // What only one chunk meets need not stay in the cache, unless it was unpacked just now.
  if (chunks() == 1) panels = unpacks() ? 1 : most;
  for (;;) {
    blocks_ = ceil_div(layer_.panels, panels);
    chunks_ = chunks();
    if (items() >= wanted && shared_out_evenly(items(), threads)) return;
    if (smaller()) continue;
    if (panels == 1) return;
    panels = ceil_div(panels, 2);
  }
}

void TileConv::add_pixels(const Item& item, Pixels& pixels, int64_t count, int64_t place,
                          int64_t step) const {
  int64_t* places = pixels.places + pixels.count;
  for (int64_t i = 0; i < count; ++i) places[i] = place + i * step;
  if (call_.scale_per_sample) {
    float* scales = pixels.scales + pixels.count;
    for (int64_t i = 0; i < count; ++i)
      scales[i] = item.data.sample_scale[places[i] / geometry_.sample_size()];
  }
  pixels.count += count;
}

void TileConv::multiply(const Item& item, const Product& product, const Pixels& pixels) const {
  constexpr size_t kMostBlocks = kMostColumns / (kTileColumns / 2);
  std::array<kernels::ConvTailArgs, kMostBlocks> tails;
  std::array<kernels::TileColumns, kMostBlocks> blocks;
  const int64_t most_columns = pixels.tile_count == 1 ? 2 * kTileColumns : kTileColumns;
  int64_t columns = most_columns;
  while (layer_.nr % columns != 0) columns /= 2;
  const int64_t first = panel_begin(item.block);
  const int64_t channels = layer_.shape.out_channels;
  const int64_t end = std::min(panel_begin(item.block + 1) * layer_.nr, channels);
  size_t count = 0;
  for (int64_t channel = first * layer_.nr; channel < end; channel += columns, ++count) {
    const int64_t panel = channel / layer_.nr;
    tails[count] = {.tail = &item.tail,
                    .channel = channel,
                    .channels = std::min(columns, channels - channel),
                    .places = pixels.places,
                    .pixel_scale = call_.scale_per_sample ? pixels.scales : nullptr,
                    .output = item.data.output,
                    .scaled = false,
                    .bounded = geometry_.tail_bounded};
    const int8_t* weights = product.strings ? layer_.row_weights.data() + panel * layer_.row_panel_bytes()
                            : unpacks()     ? item.unpacked + (panel - first) * 2 * layer_.panel_bytes
                                            : layer_.weights.data() + panel * layer_.panel_bytes;
    blocks[count] = {.weights = weights + channel % layer_.nr * 4,
                     .init = product.start + channel,
                     .tail_args = &tails[count]};
  }
  tile_gemm_->function({.tiles = pixels.tiles,
                        .tile_count = pixels.tile_count,
                        .pixel_step = product.pixel_step,
                        .steps = product.steps.data(),
                        .step_count = static_cast<int64_t>(product.steps.size()),
                        .blocks = blocks.data(),
                        .block_count = static_cast<int64_t>(count),
                        .columns = columns,
                        .weight_step = layer_.nr * 4,
                        .tail = layer_.tail->function});
}

void TileConv::add_row_steps(Product& product, int64_t row, int64_t input) const {
  const bool strings = layer_.row_dwords > 0;
  const int64_t step = strings ? layer_.string_step : layer_.row_step;
  const int64_t bytes = layer_.shape.kernel_w * layer_.shape.in_channels;
  product.strings = strings;
  for (int64_t at = 0; at < bytes; at += kTileBytes) {
    product.steps.push_back({.input = input + at, .weight = row * step + at / 4});
  }
}

std::vector<int32_t> TileConv::start_of_all_taps() const {
  std::vector<int32_t> start(static_cast<size_t>(layer_.padded), 0);
  if (call_.tail.bias != nullptr) std::copy_n(call_.tail.bias, layer_.shape.out_channels, start.begin());
  for (size_t i = 0; i < layer_.tap_sums.size(); ++i) {
    int32_t& value = start[i % start.size()];
    value = subtract_product(value, call_.input_zero_point, layer_.tap_sums[i]);
  }
  return start;
}

bool can_run_tiles(const ConvGeometry& geometry, TileRows rows) {
  const PackedConv2d::Impl& layer = geometry.layer;
  if (!layer.tiles || !geometry.corrected_at_start() || geometry.call.n == 0) return false;
  switch (rows) {
    case TileRows::kValid:
    case TileRows::kWhole:
      return layer.gathers();
    case TileRows::kLines:
      return can_run_line_tiles(geometry);
    case TileRows::kPairs:
      return can_run_pair_tiles(geometry);
    case TileRows::kSamples:
      return layer.shape.in_channels % kTileBytes == 0 &&
             kTilePixels * geometry.call.h * geometry.call.w * layer.shape.in_channels <= kMostSampleBytes;
  }
  return false;
}

std::unique_ptr<const Conv2dPlan::Driver> tiles_driver(ConvGeometry geometry, int threads, TileRows rows) {
  switch (rows) {
    case TileRows::kLines:
      return line_tiles_driver(std::move(geometry), threads);
    case TileRows::kPairs:
      return pair_tiles_driver(geometry, threads);
    case TileRows::kSamples:
      return sample_tiles_driver(std::move(geometry), threads);
    default:
      return gathered_tiles_driver(std::move(geometry), threads, rows == TileRows::kWhole);
  }
}

}  // namespace ptqx::engine
