// Pixels that lie at equal distances already, or do after each code was copied once: neighbours in a line of
// padded input, or one pixel of sixteen samples.
//
//   lines     z z z z z z     samples   pixel 0 of sample 0, 1, ... 15
//             z 0 1 2 3 z               pixel 1 of sample 0, 1, ... 15
//             z 4 5 6 7 z               ...
//             z z z z z z     (z: the zero point)

#include <algorithm>
#include <cstring>

#include "engine/conv2d_tiles.h"

namespace ptqx::engine {
namespace {

using kernels::kTileBytes;
using kernels::kTilePixels;

constexpr int64_t kBandBytes = 256 << 10;  // of padded lines at a time
constexpr int64_t kLeastTiles = 4;
constexpr int64_t kSamplesBytes = 512 << 10;  // of groups of samples at a time

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// A chunk is a band of output lines of one sample.
class LineTiles : public TileConv {
 public:
  LineTiles(ConvGeometry geometry, int threads) : TileConv(std::move(geometry)), start_(start_of_all_taps()) {
    const Conv2dShape& s = layer_.shape;
    line_bytes_ = (s.pad_left + call_.w + s.pad_right) * s.in_channels;
    product_.start = start_.data();
    product_.pixel_step = s.stride_w * s.in_channels;
    for (int64_t r = 0; r < s.kernel_h; ++r) add_row_steps(product_, r, r * s.dilation_h * line_bytes_);
    const int64_t tiles_of_line = ceil_div(geometry_.ow, kTilePixels);
    lines_ = std::clamp(kMostTiles / tiles_of_line, int64_t{1}, geometry_.oh);
    while (lines_ > 1 && input_lines(lines_) * line_bytes_ > kBandBytes) --lines_;
    split(
        threads, [&] { return call_.n * bands(); },
        [&] {
          return lines_ > 1 && lines_ * tiles_of_line > kLeastTiles && (lines_ -= ceil_div(lines_, 8), true);
        });
    // Unwanted pixels of a line's last tile, and the last step's filling, lie beyond the last line.
    code_bytes_ = input_lines(lines_) * line_bytes_ + kTilePixels * product_.pixel_step + kTileBytes;
  }

 private:
  int64_t bands() const { return ceil_div(geometry_.oh, lines_); }
  int64_t input_lines(int64_t lines) const {
    const Conv2dShape& s = layer_.shape;
    return (lines - 1) * s.stride_h + (s.kernel_h - 1) * s.dilation_h + 1;
  }

  void prepare(const Item& item, int64_t chunk, Pixels& pixels) const override {
    const int64_t n = chunk / bands(), band = chunk % bands();
    const int64_t begin = geometry_.oh * band / bands(), end = geometry_.oh * (band + 1) / bands();
    copy_lines(item, n, begin * layer_.shape.stride_h - layer_.shape.pad_top, input_lines(end - begin));
    for (int64_t oy = begin; oy < end; ++oy) {
      const uint8_t* line = item.codes + (oy - begin) * layer_.shape.stride_h * line_bytes_;
      for (int64_t ox = 0; ox < geometry_.ow; ox += kTilePixels) {
        const int64_t count = std::min(kTilePixels, geometry_.ow - ox);
        pixels.tiles[pixels.tile_count++] = {line + ox * product_.pixel_step, count};
        add_pixels(item, pixels, count, geometry_.place(n, oy, ox), geometry_.place_step());
      }
    }
  }

  void multiply_chunk(const Item& item, int64_t /*chunk*/, Pixels& pixels) const override {
    multiply(item, product_, pixels);
  }

  void copy_lines(const Item& item, int64_t n, int64_t first, int64_t count) const {
    const int64_t c = layer_.shape.in_channels;
    const auto bytes = [&](int64_t pixels) { return static_cast<size_t>(pixels * c); };
    const size_t left = bytes(layer_.shape.pad_left), inside = bytes(call_.w);
    uint8_t* line = item.codes;
    for (int64_t y = first; y < first + count; ++y, line += line_bytes_) {
      if (y < 0 || y >= call_.h) {
        std::memset(line, call_.input_zero_point, static_cast<size_t>(line_bytes_));
        continue;
      }
      std::memset(line, call_.input_zero_point, left);
      std::memcpy(line + left, item.data.input + (n * call_.h + y) * call_.w * c, inside);
      std::memset(line + left + inside, call_.input_zero_point, bytes(layer_.shape.pad_right));
    }
  }

  const std::vector<int32_t> start_;
  Product product_;
  int64_t line_bytes_ = 0;
  int64_t lines_ = 1;  // of a band, at most
};

/// All pixels of all samples are one line, which needs no copy but for a last tile that is not full.
class PointTiles final : public TileConv {
 public:
  PointTiles(ConvGeometry geometry, int threads)
      : TileConv(std::move(geometry)), start_(start_of_all_taps()), pixels_(call_.n * call_.h * call_.w) {
    product_.start = start_.data();
    product_.pixel_step = layer_.shape.in_channels;
    add_row_steps(product_, 0, 0);
    code_bytes_ = kTilePixels * product_.pixel_step + kTileBytes;
    int64_t tiles_of_chunk = kMostTiles;
    split(
        threads, [&] { return ceil_div(ceil_div(pixels_, kTilePixels), tiles_of_chunk); },
        [&] {
          return tiles_of_chunk > kLeastTiles && (tiles_of_chunk -= ceil_div(tiles_of_chunk, 8), true);
        });
  }

 private:
  void prepare(const Item& item, int64_t chunk, Pixels& pixels) const override {
    const int64_t tiles = ceil_div(pixels_, kTilePixels);
    const int64_t begin = tiles * chunk / chunks_ * kTilePixels;
    const int64_t end = std::min(tiles * (chunk + 1) / chunks_ * kTilePixels, pixels_);
    for (int64_t i = begin; i < end; i += kTilePixels) {
      pixels.tiles[pixels.tile_count++] = tile(item, i, std::min(kTilePixels, end - i));
    }
    add_pixels(item, pixels, end - begin, begin * layer_.shape.out_channels, layer_.shape.out_channels);
  }

  void multiply_chunk(const Item& item, int64_t /*chunk*/, Pixels& pixels) const override {
    multiply(item, product_, pixels);
  }

  /// Whole steps of whole tiles are read. That may be beyond the input for the last tile, which is copied;
  /// not for others, because a pixel takes more than half of its steps (fills_steps()).
  kernels::PixelTile tile(const Item& item, int64_t first, int64_t count) const {
    const int64_t c = layer_.shape.in_channels;
    const uint8_t* codes = item.data.input + first * c;
    const int64_t last = ceil_div(c, kTileBytes) * kTileBytes;
    if ((first + kTilePixels - 1) * c + last <= pixels_ * c) return {codes, count};
    std::memcpy(item.codes, codes, static_cast<size_t>(count * c));
    return {item.codes, count};
  }

  const std::vector<int32_t> start_;
  const int64_t pixels_;
  Product product_;
};

/// A chunk is some groups of sixteen samples.
class SampleTiles final : public TileConv {
 public:
  SampleTiles(ConvGeometry geometry, int threads)
      : TileConv(std::move(geometry)),
        groups_(ceil_div(call_.n, kTilePixels)),
        group_bytes_(kTilePixels * call_.h * call_.w * layer_.shape.in_channels) {
    for (size_t r = 0; r < geometry_.rows.size(); ++r) {
      for (size_t c = 0; c < geometry_.columns.size(); ++c) add_region(r, c);
    }
    int64_t groups_of_chunk = std::clamp(kSamplesBytes / group_bytes_, int64_t{1}, kMostTiles / 2);
    split(
        threads, [&] { return ceil_div(groups_, groups_of_chunk); },
        [&] { return groups_of_chunk > 2 && (groups_of_chunk /= 2, true); });
    code_bytes_ = ceil_div(groups_, chunks_) * group_bytes_;
  }

 private:
  struct Region {
    const AxisSegment* row;
    const AxisSegment* column;
    Product product;
  };

  void add_region(size_t r, size_t c) {
    const Conv2dShape& s = layer_.shape;
    Region region{&geometry_.rows[r], &geometry_.columns[c], {.steps = {}, .start = geometry_.start(r, c)}};
    region.product.pixel_step = s.in_channels;
    for (int64_t row = region.row->tap_begin; row < region.row->tap_end; ++row) {
      for (int64_t tap = region.column->tap_begin; tap < region.column->tap_end; ++tap) {
        const int64_t pixel = (row - region.row->tap_begin) * s.dilation_h * call_.w +
                              (tap - region.column->tap_begin) * s.dilation_w;
        for (int64_t channel = 0; channel < s.in_channels; channel += kTileBytes) {
          region.product.steps.push_back({.input = pixel * kTilePixels * s.in_channels + channel,
                                          .weight = layer_.tap_dword(row, tap) + channel / 4});
        }
      }
    }
    regions_.push_back(std::move(region));
  }

  void prepare(const Item& item, int64_t chunk, Pixels& /*pixels*/) const override {
    const int64_t begin = groups_ * chunk / chunks_, end = groups_ * (chunk + 1) / chunks_;
    for (int64_t group = begin; group < end; ++group) {
      interleave(item.data, group, item.codes + (group - begin) * group_bytes_);
    }
  }

  void multiply_chunk(const Item& item, int64_t chunk, Pixels& pixels) const override {
    const int64_t begin = groups_ * chunk / chunks_, end = groups_ * (chunk + 1) / chunks_;
    for (const Region& region : regions_) {
      for (int64_t oy = region.row->begin; oy < region.row->end; ++oy) {
        for (int64_t ox = region.column->begin; ox < region.column->end; ++ox) {
          if (pixels.tile_count + end - begin > kMostTiles) flush(item, region, pixels);
          for (int64_t group = begin; group < end; ++group) {
            add_samples(item, region, oy, ox, group, item.codes + (group - begin) * group_bytes_, pixels);
          }
        }
      }
      flush(item, region, pixels);
    }
  }

  void flush(const Item& item, const Region& region, Pixels& pixels) const {
    multiply(item, region.product, pixels);
    pixels.tile_count = pixels.count = 0;
  }

  int64_t samples_of(int64_t group) const { return std::min(kTilePixels, call_.n - group * kTilePixels); }

  /// [pixels][16][in_channels]
  void interleave(const Conv2dData& data, int64_t group, uint8_t* codes) const {
    const int64_t c = layer_.shape.in_channels, pixels = call_.h * call_.w;
    const uint8_t* input = data.input + group * kTilePixels * pixels * c;
    for (int64_t n = 0; n < samples_of(group); ++n, input += pixels * c) {
      for (int64_t pixel = 0; pixel < pixels; ++pixel) {
        std::memcpy(codes + (pixel * kTilePixels + n) * c, input + pixel * c, static_cast<size_t>(c));
      }
    }
  }

  void add_samples(const Item& item, const Region& region, int64_t oy, int64_t ox, int64_t group,
                   const uint8_t* codes, Pixels& pixels) const {
    const Conv2dShape& s = layer_.shape;
    const bool any_taps = region.row->taps() > 0 && region.column->taps() > 0;
    const int64_t h = oy * s.stride_h - s.pad_top + region.row->tap_begin * s.dilation_h;
    const int64_t w = ox * s.stride_w - s.pad_left + region.column->tap_begin * s.dilation_w;
    if (any_taps) codes += (h * call_.w + w) * kTilePixels * s.in_channels;
    pixels.tiles[pixels.tile_count++] = {codes, samples_of(group)};
    add_pixels(item, pixels, samples_of(group), geometry_.place(group * kTilePixels, oy, ox),
               geometry_.sample_size());
  }

  const int64_t groups_;
  const int64_t group_bytes_;
  std::vector<Region> regions_;
};

}  // namespace

bool pixels_are_a_line(const ConvGeometry& geometry) {
  const Conv2dShape& s = geometry.layer.shape;
  return !geometry.call.grid && s.kernel_h == 1 && s.kernel_w == 1 && s.stride_h == 1 && s.stride_w == 1 &&
         s.pad_top == 0 && s.pad_left == 0 && s.pad_bottom == 0 && s.pad_right == 0;
}

bool can_run_line_tiles(const ConvGeometry& geometry) {
  const PackedConv2d::Impl& layer = geometry.layer;
  const int64_t c = layer.shape.in_channels;
  if (!layer.rows_are_steps() || geometry.oh == 0 || geometry.ow == 0) return false;
  // No tile but the last is to be read beyond its end by more than that has.
  if (pixels_are_a_line(geometry)) return 2 * c >= ceil_div(c, kTileBytes) * kTileBytes;
  return ceil_div(geometry.ow, kTilePixels) <= TileConv::kMostTiles;
}

std::unique_ptr<const Conv2dPlan::Driver> line_tiles_driver(ConvGeometry geometry, int threads) {
  if (pixels_are_a_line(geometry)) return std::make_unique<const PointTiles>(std::move(geometry), threads);
  return std::make_unique<const LineTiles>(std::move(geometry), threads);
}

std::unique_ptr<const Conv2dPlan::Driver> sample_tiles_driver(ConvGeometry geometry, int threads) {
  return std::make_unique<const SampleTiles>(std::move(geometry), threads);
}

}  // namespace ptqx::engine
