// A driver for 3 x 3 kernels with stride 1 that makes a quarter of the multiplications, with operands twice
// as wide (kernels/winograd.h). Weights stay as they are packed: so many output channels at a time are
// transformed where they are met, which costs as much as multiplying one or two tiles with them. Tiles are 4
// x 4 outputs; what lies beyond the map is padding.
//
//   V [36][tiles][channels]    U [36][channels][columns]    products [36][tiles][columns]

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/conv2d_impl.h"
#include "engine/machine.h"
#include "kernels/winograd.h"

namespace ptqx::engine {
namespace {

using kernels::kGemmMaxNr;
using kernels::kWinogradPatch;
using kernels::kWinogradPositions;
using kernels::kWinogradTile;

constexpr int64_t kMostTiles = 64;           // that meet the same transformed weights
constexpr int64_t kInputBytes = 2304 << 10;  // of V at a time
// Of a sample. Networks of smaller layers, such as ResNet-20, would take more memory for this than for the
// rest.
constexpr int64_t kLeastMacs = 4 << 20;
constexpr int64_t kItemsPerThread = 4;
constexpr int64_t kLineWords = 32;  // int16 of a cache line: between positions, which else would share a set
constexpr int64_t kOutputs = kWinogradTile * kWinogradTile;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Tiles {
  explicit Tiles(const ConvGeometry& geometry)
      : rows(ceil_div(geometry.oh, kWinogradTile)),
        columns(ceil_div(geometry.ow, kWinogradTile)),
        count(geometry.call.n * rows * columns) {}

  int64_t rows, columns;  // of a sample
  int64_t count;          // of all
};

/// Output channels that are transformed together: a panel, or as many of its vectors as the second-level
/// cache holds beside V.
int64_t columns_at_a_time(const PackedConv2d::Impl& layer) {
  const int64_t most_bytes = second_level_cache_bytes() / 10 * 3;
  const int64_t bytes_per_column =
      kWinogradPositions * layer.in_group * static_cast<int64_t>(sizeof(int16_t));
  for (const int64_t columns : {layer.nr, layer.nr / 2, int64_t{16}}) {
    if (columns % 16 == 0 && columns * bytes_per_column <= most_bytes) return columns;
  }
  return 16;
}

/// Tiles that meet them.
int64_t tiles_at_a_time(const PackedConv2d::Impl& layer) {
  const int64_t bytes_per_tile = kWinogradPositions * layer.in_group * static_cast<int64_t>(sizeof(int16_t));
  return std::clamp<int64_t>(kInputBytes / bytes_per_tile, 1, kMostTiles);
}

class WinogradConv final : public Conv2dPlan::Driver {
 public:
  WinogradConv(ConvGeometry geometry, int threads)
      : geometry_(std::move(geometry)),
        layer_(geometry_.layer),
        tiles_(geometry_),
        channels_(layer_.in_group),
        columns_(columns_at_a_time(layer_)),
        parts_(ceil_div(layer_.shape.out_channels, columns_)),
        input_row_(&kernels::best_row(kernels::winograd_input_rows())),
        weight_row_(&kernels::best_row(kernels::winograd_weight_rows())),
        output_row_(&kernels::best_row(kernels::winograd_output_rows())),
        gemm_(&kernels::best_row(kernels::gemm_s16s16_rows())) {
    const int64_t wanted = threads > 1 ? threads * kItemsPerThread : 1;
    chunks_ = ceil_div(tiles_.count, tiles_at_a_time(layer_));
    blocks_ = std::min(parts_, ceil_div(wanted, std::max(chunks_, int64_t{1})));
    const int64_t most_tiles = ceil_div(tiles_.count, std::max(chunks_, int64_t{1}));
    input_step_ = most_tiles * channels_ + kLineWords;
    weight_step_ = channels_ * columns_ + kLineWords;
    product_step_ = most_tiles * columns_ + kLineWords / 2;
    fill_start();
  }

  int64_t items() const override { return chunks_ * blocks_; }
  const char* kernel_name() const override { return gemm_->name; }

  size_t scratch_bytes() const override {
    return static_cast<size_t>(kWinogradPositions) *
               (2 * static_cast<size_t>(input_step_ + weight_step_) + 4 * static_cast<size_t>(product_step_) +
                static_cast<size_t>(channels_)) +
           3 * kAlignment;
  }

  void run(const Conv2dData& data, int64_t begin, int64_t end) const override {
    const BlockLease block(conv2d_scratch());
    const Scratch scratch = scratch_in(*block);
    const kernels::Tail tail = tail_of(geometry_.call, data);
    for (int64_t item = begin; item < end; ++item) run_item(data, tail, scratch, item);
  }

 private:
  struct Scratch {
    int16_t* input;
    int16_t* weight;
    int32_t* products;
    uint8_t* patch;
  };

  Scratch scratch_in(Block& block) const {
    uint8_t* memory = block.reserve(scratch_bytes());
    const auto take = [&](int64_t bytes) {
      uint8_t* begin = memory;
      memory += ceil_div(kWinogradPositions * bytes, kAlignment) * static_cast<int64_t>(kAlignment);
      return begin;
    };
    return {.input = reinterpret_cast<int16_t*>(take(2 * input_step_)),
            .weight = reinterpret_cast<int16_t*>(take(2 * weight_step_)),
            .products = reinterpret_cast<int32_t*>(take(4 * product_step_)),
            .patch = take(channels_)};
  }

  /// The bias, less what the input's zero point adds: padding holds it too, so all taps always count.
  void fill_start() {
    const ConvGeometry& g = geometry_;
    start_.assign(static_cast<size_t>(layer_.padded), 0);
    if (g.call.tail.bias != nullptr) std::copy_n(g.call.tail.bias, layer_.shape.out_channels, start_.begin());
    if (layer_.tap_sums.empty()) return;
    for (int64_t tap = 0; tap < layer_.taps(); ++tap) {
      for (int64_t j = 0; j < layer_.padded; ++j) {
        int32_t& start = start_[static_cast<size_t>(j)];
        start = subtract_product(start, g.call.input_zero_point,
                                 layer_.tap_sums[static_cast<size_t>(tap * layer_.padded + j)]);
      }
    }
  }

  void run_item(const Conv2dData& data, const kernels::Tail& tail, const Scratch& scratch,
                int64_t item) const {
    const int64_t chunk = item % chunks_, block = item / chunks_;
    const int64_t first = tiles_.count * chunk / chunks_;
    const int64_t count = tiles_.count * (chunk + 1) / chunks_ - first;
    for (int64_t i = 0; i < count; ++i) transform_input(data.input, first + i, scratch, i);
    for (int64_t part = parts_ * block / blocks_; part < parts_ * (block + 1) / blocks_; ++part) {
      transform_weight(scratch, part);
      multiply(scratch, count);
      for (int64_t i = 0; i < count; ++i) finish(data, tail, scratch, first + i, i, part);
    }
  }

  void transform_input(const uint8_t* input, int64_t tile, const Scratch& scratch, int64_t index) const {
    const Conv2dCall& call = geometry_.call;
    const int64_t n = tile / (tiles_.rows * tiles_.columns);
    const int64_t y = tile / tiles_.columns % tiles_.rows * kWinogradTile - layer_.shape.pad_top;
    const int64_t x = tile % tiles_.columns * kWinogradTile - layer_.shape.pad_left;
    const uint8_t* sample = input + n * call.h * call.w * channels_;
    kernels::WinogradInputArgs args{.codes = scratch.patch,
                                    .row_step = kWinogradPatch * channels_,
                                    .pixel_step = channels_,
                                    .channels = channels_,
                                    .output = scratch.input + index * channels_,
                                    .position_step = input_step_};
    if (y >= 0 && y + kWinogradPatch <= call.h && x >= 0 && x + kWinogradPatch <= call.w) {
      args.codes = sample + (y * call.w + x) * channels_;
      args.row_step = call.w * channels_;
    } else {
      copy_patch(sample, y, x, scratch.patch);
    }
    input_row_->function(args);
  }

  void copy_patch(const uint8_t* sample, int64_t y, int64_t x, uint8_t* patch) const {
    const Conv2dCall& call = geometry_.call;
    const int64_t left = std::clamp<int64_t>(-x, 0, kWinogradPatch);
    const int64_t right = std::clamp<int64_t>(call.w - x, left, kWinogradPatch);
    const auto bytes = [&](int64_t pixels) { return static_cast<size_t>(pixels * channels_); };
    for (int64_t row = 0; row < kWinogradPatch; ++row, patch += kWinogradPatch * channels_) {
      const bool inside = y + row >= 0 && y + row < call.h && right > left;
      if (!inside || right - left < kWinogradPatch) {
        std::memset(patch, call.input_zero_point, bytes(kWinogradPatch));
      }
      if (!inside) continue;
      std::memcpy(patch + left * channels_, sample + ((y + row) * call.w + x + left) * channels_,
                  bytes(right - left));
    }
  }

  void transform_weight(const Scratch& scratch, int64_t part) const {
    const int64_t channel = part * columns_;
    weight_row_->function({.panel = layer_.weights.data() + channel / layer_.nr * layer_.panel_bytes,
                           .dwords = layer_.dwords,
                           .row_dwords = layer_.row_step,
                           .nr = layer_.nr,
                           .codes_per_byte = layer_.codes_per_byte,
                           .column = channel % layer_.nr,
                           .columns = columns_,
                           .output = scratch.weight,
                           .position_step = weight_step_});
  }

  void multiply(const Scratch& scratch, int64_t count) const {
    alignas(64) static constexpr int32_t kZeros[kGemmMaxNr] = {};
    const uint8_t* rows[kMostTiles];
    for (int64_t i = 0; i < count; ++i) {
      rows[i] = reinterpret_cast<const uint8_t*>(scratch.input + i * channels_);
    }
    for (int64_t p = 0; p < kWinogradPositions; ++p) {
      const kernels::GemmRun run{2 * p * input_step_, 0, channels_ / 2};
      gemm_->function({.pixels = rows,
                       .m = count,
                       .runs = &run,
                       .run_count = 1,
                       .panel = reinterpret_cast<const int8_t*>(scratch.weight + p * weight_step_),
                       .nr = columns_,
                       .init = kZeros,
                       .acc = scratch.products + p * product_step_,
                       .acc_rows = nullptr,
                       .tail = nullptr,
                       .tail_args = nullptr});
    }
  }

  void finish(const Conv2dData& data, const kernels::Tail& tail, const Scratch& scratch, int64_t tile,
              int64_t index, int64_t part) const {
    alignas(64) int32_t sums[kOutputs * kGemmMaxNr];
    const int64_t channel = part * columns_;
    output_row_->function({.products = scratch.products + index * columns_,
                           .position_step = product_step_,
                           .columns = columns_,
                           .init = start_.data() + channel,
                           .output = sums});
    const int64_t n = tile / (tiles_.rows * tiles_.columns);
    const int64_t y = tile / tiles_.columns % tiles_.rows * kWinogradTile;
    const int64_t x = tile % tiles_.columns * kWinogradTile;
    int64_t places[kOutputs];
    for (int64_t i = 0; i < kOutputs; ++i) {
      places[i] = geometry_.place(n, y + i / kWinogradTile, x + i % kWinogradTile);
    }
    const kernels::ConvTailArgs args{.tail = &tail,
                                     .channel = channel,
                                     .channels = std::min(columns_, layer_.shape.out_channels - channel),
                                     .places = places,
                                     .pixel_scale = nullptr,
                                     .output = data.output,
                                     .scaled = false,
                                     .bounded = geometry_.tail_bounded};
    const int64_t height = std::min(kWinogradTile, geometry_.oh - y);
    const int64_t width = std::min(kWinogradTile, geometry_.ow - x);
    if (width == kWinogradTile) return layer_.tail->function(args, sums, 0, height * width, columns_);
    for (int64_t row = 0; row < height; ++row) {
      const int64_t first = row * kWinogradTile;
      layer_.tail->function(args, sums + first * columns_, first, width, columns_);
    }
  }

  const ConvGeometry geometry_;
  const PackedConv2d::Impl& layer_;
  const Tiles tiles_;
  const int64_t channels_;  // of the input
  const int64_t columns_;   // output channels of a part
  const int64_t parts_;
  const kernels::Row<kernels::WinogradInputFn>* input_row_;
  const kernels::Row<kernels::WinogradWeightFn>* weight_row_;
  const kernels::Row<kernels::WinogradOutputFn>* output_row_;
  const kernels::Row<kernels::GemmFn>* gemm_;
  int64_t chunks_, blocks_;                          // shares of the tiles, and of the parts
  int64_t input_step_, weight_step_, product_step_;  // elements from a position to the next
  std::vector<int32_t> start_;                       // [padded]
};

/// In multiplications of a dword with 16 output channels, at the rates that were measured.
struct Costs {
  double product;   // of two words with 16 output channels
  double position;  // of a tile and 16 output channels, beside that
  double input;     // of a tile and 64 channels
  double weight;    // of a channel and 32 output channels
  double output;    // of a tile and 16 output channels
};

/// AMD's processors shuffle and store in about the time that they multiply. Intel's multiply vectors of 512
/// bits twice as fast as they do the rest.
Costs costs() {
  constexpr Costs kAmd = {.product = 1.075, .position = 3, .input = 380, .weight = 150, .output = 130};
  constexpr Costs kIntel256 = {.product = 1.09, .position = 17, .input = 490, .weight = 230, .output = 0};
  constexpr Costs kIntel512 = {.product = 1.08, .position = 8, .input = 1520, .weight = 410, .output = 0};
  const kernels::Isa isa = kernels::best_row(kernels::gemm_s16s16_rows()).isa;
  if (!kernels::cpu_is_intel() || isa < kernels::Isa::kAvxVnni) return kAmd;
  return isa == kernels::Isa::kAvxVnni ? kIntel256 : kIntel512;
}

double cost_of_regions(const ConvGeometry& geometry) {
  const PackedConv2d::Impl& layer = geometry.layer;
  // Without VNNI a dword of bytes takes two multiplications of words, one of 4 bits little more than one.
  const bool vnni = layer.gemm->isa >= kernels::Isa::kAvxVnni;
  const double instructions = vnni ? 1.0 : layer.codes_per_byte == 2 ? 1.4 : 2.0;
  return 1.06 * instructions *
         static_cast<double>(geometry.call.n * geometry.products() * layer.dwords * layer.padded / 16);
}

double cost_of_winograd(const ConvGeometry& geometry) {
  const PackedConv2d::Impl& layer = geometry.layer;
  const auto tiles = static_cast<double>(Tiles(geometry).count);
  const auto channels = static_cast<double>(layer.in_group), outputs = static_cast<double>(layer.padded);
  const double chunks = std::ceil(tiles / static_cast<double>(tiles_at_a_time(layer)));
  const Costs cost = costs();
  const double products =
      tiles * kWinogradPositions * (cost.product * channels / 2 + cost.position) * outputs / 16;
  const double input = cost.input * tiles * std::ceil(channels / 64);
  const double weight = cost.weight * chunks * channels * outputs / 32;
  const double output = cost.output * tiles * outputs / 16;
  return products + input + weight + output;
}

}  // namespace

bool can_run_winograd(const ConvGeometry& geometry) {
  const PackedConv2d::Impl& layer = geometry.layer;
  const Conv2dShape& s = layer.shape;
  return s.kernel_h == 3 && s.kernel_w == 3 && s.stride_h == 1 && s.stride_w == 1 && s.dilation_h == 1 &&
         s.dilation_w == 1 && s.groups == 1 && s.in_channels % kernels::kWinogradChannels == 0 &&
         layer.sums_fit_winograd && geometry.corrected_at_start() && !geometry.call.scale_per_sample &&
         geometry.call.n > 0;
}

bool suits_winograd(const ConvGeometry& geometry) {
  return can_run_winograd(geometry) &&
         useful_macs(geometry.layer.shape, geometry.call.h, geometry.call.w) >= kLeastMacs &&
         cost_of_winograd(geometry) < 0.93 * cost_of_regions(geometry);
}

std::unique_ptr<const Conv2dPlan::Driver> winograd_driver(ConvGeometry geometry, int threads) {
  return std::make_unique<const WinogradConv>(std::move(geometry), threads);
}

}  // namespace ptqx::engine
