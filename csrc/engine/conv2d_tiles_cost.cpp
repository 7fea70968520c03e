// Which pixels to multiply at a time in a matrix unit, if any. Costs are cycles as they were measured on a
// Xeon of the fifth generation, where a product of two tiles takes sixteen.

#include <algorithm>
#include <limits>

#include "engine/conv2d_tiles.h"

namespace ptqx::engine {
namespace {

using kernels::kTileBytes;
using kernels::kTilePixels;

constexpr double kProduct = 17;          // codes in the first-level cache
constexpr double kGatheredProduct = 22;  // both operands come from the second
constexpr double kLonelyProduct = 26;    // of one tile of pixels, for which all weights are loaded
constexpr double kPiece = 8;             // to gather
constexpr double kGatheredStep = 2;
constexpr double kBytesCopied = 12;    // a cycle
constexpr double kBytesStreamed = 11;  // of weights, from beyond the second-level cache
constexpr double kUnpackedBytes = 24;  // of codes of 4 bits
constexpr double kVectorProducts = 2;  // of a dword and 16 channels, a cycle
constexpr double kClearShare = 0.9;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Steps of so many rows of so many taps, one run each.
int64_t steps(const PackedConv2d::Impl& layer, int64_t rows, int64_t taps) {
  return rows * ceil_div(taps * layer.dwords * 4, kTileBytes);
}

/// Of `tiles` tiles that meet the same weights, all channels.
double cost_of_products(const PackedConv2d::Impl& layer, int64_t tiles, int64_t steps, double product) {
  return (tiles == 1 ? kLonelyProduct : product) * static_cast<double>(tiles * steps * (layer.padded / 16));
}

double cost_of_gathering(int64_t pixels, int64_t pieces, int64_t steps) {
  return static_cast<double>(pixels) *
         (kPiece * static_cast<double>(pieces) + kGatheredStep * static_cast<double>(steps));
}

double cost_of_copy(int64_t bytes) { return static_cast<double>(bytes) / kBytesCopied; }

/// Of one sample.
double cost_of_padded_lines(const ConvGeometry& geometry) {
  const Conv2dShape& s = geometry.layer.shape;
  return cost_of_copy((geometry.call.h + s.pad_top + s.pad_bottom) * geometry.call.w * s.in_channels);
}

double cost_of_valid(const ConvGeometry& geometry) {
  double cost = 0;
  for (const AxisSegment& row : geometry.rows) {
    for (const AxisSegment& column : geometry.columns) {
      const int64_t pixels = geometry.call.n * row.size() * column.size();
      const int64_t steps_of_region = steps(geometry.layer, row.taps(), column.taps());
      cost +=
          cost_of_products(geometry.layer, ceil_div(pixels, kTilePixels), steps_of_region, kGatheredProduct) +
          cost_of_gathering(pixels, row.taps(), steps_of_region);
    }
  }
  return cost;
}

double cost_of_whole(const ConvGeometry& geometry) {
  const Conv2dShape& s = geometry.layer.shape;
  const int64_t pixels = geometry.call.n * geometry.oh * geometry.ow;
  const int64_t all = steps(geometry.layer, s.kernel_h, s.kernel_w);
  return cost_of_products(geometry.layer, ceil_div(pixels, kTilePixels), all, kGatheredProduct) +
         cost_of_gathering(pixels, 2 * s.kernel_h, all);
}

double cost_of_lines(const ConvGeometry& geometry) {
  const Conv2dShape& s = geometry.layer.shape;
  const Conv2dCall& call = geometry.call;
  const int64_t all = steps(geometry.layer, s.kernel_h, s.kernel_w);
  if (pixels_are_a_line(geometry)) {
    return cost_of_products(geometry.layer, ceil_div(call.n * call.h * call.w, kTilePixels), all, kProduct);
  }
  const int64_t tiles = geometry.oh * ceil_div(geometry.ow, kTilePixels);
  return static_cast<double>(call.n) *
         (cost_of_products(geometry.layer, tiles, all, kProduct) + cost_of_padded_lines(geometry));
}

double cost_of_pairs(const ConvGeometry& geometry) {
  const PackedConv2d::Impl& pairs = *geometry.layer.pairs;
  const int64_t tiles = geometry.oh * ceil_div(geometry.ow / 2, kTilePixels);
  const int64_t all = steps(pairs, pairs.shape.kernel_h, pairs.shape.kernel_w);
  return static_cast<double>(geometry.call.n) *
         (cost_of_products(pairs, tiles, all, kProduct) + cost_of_padded_lines(geometry));
}

double cost_of_samples(const ConvGeometry& geometry) {
  const Conv2dCall& call = geometry.call;
  const int64_t groups = ceil_div(call.n, kTilePixels);
  double cost = 0;
  for (const AxisSegment& row : geometry.rows) {
    for (const AxisSegment& column : geometry.columns) {
      cost += cost_of_products(geometry.layer, groups * row.size() * column.size(),
                               steps(geometry.layer, row.taps(), column.taps()), kProduct);
    }
  }
  return cost + cost_of_copy(call.n * call.h * call.w * geometry.layer.shape.in_channels);
}

double cost_of(const ConvGeometry& geometry, TileRows rows) {
  switch (rows) {
    case TileRows::kValid:
      return cost_of_valid(geometry);
    case TileRows::kWhole:
      return cost_of_whole(geometry);
    case TileRows::kLines:
      return cost_of_lines(geometry);
    case TileRows::kPairs:
      return cost_of_pairs(geometry);
    case TileRows::kSamples:
      return cost_of_samples(geometry);
  }
  return std::numeric_limits<double>::infinity();
}

}  // namespace

std::optional<TileRows> suitable_tiles(const ConvGeometry& geometry) {
  const PackedConv2d::Impl& layer = geometry.layer;
  const double stream = static_cast<double>(layer.panels * layer.panel_bytes) / kBytesStreamed;
  const double vectors = static_cast<double>(geometry.call.n * geometry.products() * layer.dwords) *
                         static_cast<double>(layer.padded / 16) / kVectorProducts;
  const double unpack = layer.codes_per_byte == 1
                            ? 0
                            : 2 * static_cast<double>(layer.panels * layer.panel_bytes) / kUnpackedBytes;
  double best_cost = kClearShare * (vectors + stream);
  std::optional<TileRows> best;
  for (const TileRows rows :
       {TileRows::kValid, TileRows::kWhole, TileRows::kLines, TileRows::kPairs, TileRows::kSamples}) {
    if (!can_run_tiles(geometry, rows)) continue;
    const double cost = cost_of(geometry, rows) + stream + unpack;
    if (cost < best_cost) best = rows, best_cost = cost;
  }
  return best;
}

}  // namespace ptqx::engine
