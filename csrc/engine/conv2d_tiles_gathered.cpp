// Codes are gathered: what the valid taps of a pixel see becomes one row of memory. By regions, taps on
// padding are skipped, and weights are read once for every region; whole, padding is gathered too, and
// weights are read once.
//
//   a pixel's row: runs of codes, each where the panel's dwords of the same taps lie; zeros up to whole steps
//   | tap 0, tap 1, tap 2 | tap 3 ... | 0 0 |

#include <algorithm>

#include "engine/conv2d_tiles.h"

namespace ptqx::engine {
namespace {

using kernels::GatherPiece;
using kernels::kTileBytes;
using kernels::kTilePixels;
using kernels::TileStep;

constexpr int64_t kLeastPixels = 64;
constexpr int64_t kGatheredBytes = 512 << 10;  // in the second-level cache, beside a block of panels

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

/// Where the codes of a pixel's taps come from and go to. Codes whose weights follow one another do so too.
class RowLayout {
 public:
  /// Bytes that meet the panel from dword `weight` on; where in the row they begin.
  int64_t place(int64_t weight, int64_t bytes) {
    if (runs_.empty() || runs_.back().weight + runs_.back().bytes / 4 != weight) {
      runs_.push_back({.weight = weight, .output = this->bytes(), .bytes = 0});
    }
    Run& run = runs_.back();
    const int64_t at = run.output + run.bytes;
    run.bytes += bytes;
    return at;
  }

  int64_t bytes() const {
    return runs_.empty() ? 0 : runs_.back().output + round_up(runs_.back().bytes, kTileBytes);
  }

  std::vector<TileStep> steps() const {
    std::vector<TileStep> steps;
    for (const Run& run : runs_) {
      for (int64_t at = 0; at < run.bytes; at += kTileBytes) {
        steps.push_back({.input = run.output + at, .weight = run.weight + at / 4});
      }
    }
    return steps;
  }

  /// Zeros where the last step of a run goes beyond it: the weights there are others'.
  std::vector<GatherPiece> zeros() const {
    std::vector<GatherPiece> pieces;
    for (const Run& run : runs_) {
      const int64_t end = run.output + round_up(run.bytes, kTileBytes);
      if (run.bytes % kTileBytes != 0) pieces.push_back({.input = 0, .output = end - kTileBytes, .bytes = 0});
    }
    return pieces;
  }

 private:
  struct Run {
    int64_t weight, output, bytes;
  };
  std::vector<Run> runs_;
};

/// Output pixels, of all samples, that share their valid taps.
struct Region {
  const AxisSegment* row;
  const AxisSegment* column;
  std::vector<GatherPiece> pieces;
  int64_t pixels;
};

class GatheredTiles final : public TileConv {
 public:
  GatheredTiles(ConvGeometry geometry, int threads, bool whole)
      : TileConv(std::move(geometry)),
        whole_(whole),
        gather_(&kernels::best_row(kernels::gather_rows())),
        padding_(static_cast<size_t>(round_up(layer_.shape.kernel_w * layer_.dwords * 4, kTileBytes)),
                 static_cast<uint8_t>(call_.input_zero_point)) {
    if (whole) {
      whole_start_ = start_of_all_taps();
      parts_.emplace_back().product.start = whole_start_.data();
    }
    for (size_t r = 0; r < geometry_.rows.size(); ++r) {
      for (size_t c = 0; c < geometry_.columns.size(); ++c) {
        if (!whole) parts_.emplace_back().product.start = geometry_.start(r, c);
        add_region(parts_.back(), geometry_.rows[r], geometry_.columns[c]);
      }
    }
    int64_t most_pixels = kMostPixels / 2;
    split(
        threads, [&] { return cut(most_pixels); },
        [&] { return most_pixels > kLeastPixels && (most_pixels /= 2, true); });
    for (const Part& part : parts_) {
      const int64_t tiles = ceil_div(part.pixels, kTilePixels);
      const int64_t most = ceil_div(tiles, std::max(part.chunks, int64_t{1})) * kTilePixels;
      code_bytes_ = std::max(code_bytes_, most * part.product.pixel_step + kTileBytes);
    }
  }

 private:
  /// Pixels that meet the same dwords of the panels.
  struct Part {
    std::vector<Region> regions;
    Product product;  // of rows of pixel_step bytes
    int64_t pixels = 0;
    int64_t first_chunk = 0, chunks = 0;
  };

  void add_region(Part& part, const AxisSegment& row, const AxisSegment& column) {
    const Conv2dShape& s = layer_.shape;
    const bool strings = layer_.row_dwords > 0 && (whole_ || column.taps() == s.kernel_w);
    RowLayout layout;
    std::vector<GatherPiece> pieces;
    for (int64_t r = whole_ ? 0 : row.tap_begin; r < (whole_ ? s.kernel_h : row.tap_end); ++r) {
      const bool valid = row.tap_begin <= r && r < row.tap_end;
      strings ? add_string(layout, pieces, r, row, column, valid)
              : add_taps(layout, pieces, r, row, column, valid);
    }
    Region region{.row = &row, .column = &column, .pieces = layout.zeros(), .pixels = 0};
    region.pieces.insert(region.pieces.end(), pieces.begin(), pieces.end());
    region.pixels = call_.n * row.size() * column.size();
    part.product.strings = strings;
    part.product.steps = layout.steps();
    // An odd number of cache lines, so that pixels do not share cache sets.
    part.product.pixel_step = (layout.bytes() / kTileBytes | 1) * kTileBytes;
    part.pixels += region.pixels;
    part.regions.push_back(std::move(region));
  }

  /// A row of taps as one string of bytes, of which the taps of the segment are valid.
  void add_string(RowLayout& layout, std::vector<GatherPiece>& pieces, int64_t r, const AxisSegment& row,
                  const AxisSegment& column, bool valid) const {
    const int64_t c = layer_.shape.in_channels;
    const int64_t at = layout.place(r * layer_.string_step, layer_.row_dwords * 4);
    const int64_t width = layer_.shape.kernel_w * c;
    if (!valid) return pieces.push_back({.input = 0, .output = at, .bytes = width, .padding = true});
    const int64_t begin = column.tap_begin * c, end = column.tap_end * c;
    if (begin > 0) pieces.push_back({.input = 0, .output = at, .bytes = begin, .padding = true});
    pieces.push_back({.input = input_of(r, row), .output = at + begin, .bytes = end - begin});
    if (end < width)
      pieces.push_back({.input = 0, .output = at + end, .bytes = width - end, .padding = true});
  }

  void add_taps(RowLayout& layout, std::vector<GatherPiece>& pieces, int64_t r, const AxisSegment& row,
                const AxisSegment& column, bool valid) const {
    const Conv2dShape& s = layer_.shape;
    const int64_t bytes = layer_.dwords * 4;
    const bool side_by_side = s.dilation_w == 1 && s.in_channels % 4 == 0;
    for (int64_t t = whole_ ? 0 : column.tap_begin; t < (whole_ ? s.kernel_w : column.tap_end); ++t) {
      const bool padding = !valid || t < column.tap_begin || t >= column.tap_end;
      GatherPiece piece{.input = 0,
                        .output = layout.place(layer_.tap_dword(r, t), bytes),
                        .bytes = bytes,
                        .padding = padding};
      if (!padding) piece.input = input_of(r, row) + (t - column.tap_begin) * s.dilation_w * s.in_channels;
      if (side_by_side && !pieces.empty() && follows(pieces.back(), piece)) {
        pieces.back().bytes += bytes;
      } else {
        pieces.push_back(piece);
      }
    }
  }

  static bool follows(const GatherPiece& before, const GatherPiece& piece) {
    return !before.padding && !piece.padding && before.input + before.bytes == piece.input &&
           before.output + before.bytes == piece.output;
  }

  /// From a pixel's first valid tap to that of kernel row r.
  int64_t input_of(int64_t r, const AxisSegment& row) const {
    return (r - row.tap_begin) * layer_.shape.dilation_h * call_.w * layer_.shape.in_channels;
  }

  /// Cuts the parts into chunks of at most so many pixels, and returns how many.
  int64_t cut(int64_t most_pixels) {
    int64_t chunks = 0;
    for (Part& part : parts_) {
      const int64_t cached = kGatheredBytes / part.product.pixel_step / (2 * kTilePixels) * (2 * kTilePixels);
      part.first_chunk = chunks;
      part.chunks = ceil_div(part.pixels, std::clamp(cached, 2 * kTilePixels, most_pixels));
      chunks += part.chunks;
    }
    return chunks;
  }

  const Part& part_of(int64_t chunk) const {
    const Part* part = parts_.data();
    while (chunk >= part->first_chunk + part->chunks) ++part;
    return *part;
  }

  void prepare(const Item& item, int64_t chunk, Pixels& pixels) const override {
    const Part& part = part_of(chunk);
    chunk -= part.first_chunk;
    // Whole tiles but for the last one.
    const int64_t tiles = ceil_div(part.pixels, kTilePixels);
    const int64_t begin = tiles * chunk / part.chunks * kTilePixels;
    const int64_t end = std::min(tiles * (chunk + 1) / part.chunks * kTilePixels, part.pixels);
    gather(item, part, begin, end, pixels);
  }

  void multiply_chunk(const Item& item, int64_t chunk, Pixels& pixels) const override {
    multiply(item, part_of(chunk).product, pixels);
  }

  void gather(const Item& item, const Part& part, int64_t begin, int64_t end, Pixels& pixels) const {
    const int64_t row_bytes = part.product.pixel_step;
    const uint8_t* codes[kMostPixels];
    for (const Region& region : part.regions) {
      if (begin < region.pixels && begin < end) {
        const int64_t first = pixels.count;
        const int64_t count = std::min(end, region.pixels) - begin;
        locate(item, region, begin, count, codes, pixels);
        gather_->function({.pixels = codes + first,
                           .m = count,
                           .pieces = region.pieces.data(),
                           .piece_count = static_cast<int64_t>(region.pieces.size()),
                           .padding = padding_.data(),
                           .row_bytes = row_bytes,
                           .output = item.codes + first * row_bytes});
        begin += count;
      }
      begin -= region.pixels;
      end -= region.pixels;
    }
    for (int64_t i = 0; i < pixels.count; i += kTilePixels) {
      pixels.tiles[pixels.tile_count++] = {item.codes + i * row_bytes,
                                           std::min(kTilePixels, pixels.count - i)};
    }
  }

  /// Adds pixels [begin, begin + count) of a region; `codes` are those of the first valid tap.
  void locate(const Item& item, const Region& region, int64_t begin, int64_t count, const uint8_t** codes,
              Pixels& pixels) const {
    const Conv2dShape& s = layer_.shape;
    const int64_t width = region.column->size();
    const bool any_taps = region.row->taps() > 0 && region.column->taps() > 0;
    const int64_t step = any_taps ? s.stride_w * s.in_channels : 0;
    const int64_t last = pixels.count + count;
    int64_t line = begin / width;  // of all samples
    int64_t x = begin % width;
    for (; pixels.count < last; ++line, x = 0) {
      const int64_t n = line / region.row->size();
      const int64_t oy = region.row->begin + line % region.row->size();
      const int64_t ox = region.column->begin + x;
      const int64_t h = oy * s.stride_h - s.pad_top + region.row->tap_begin * s.dilation_h;
      const int64_t w = ox * s.stride_w - s.pad_left + region.column->tap_begin * s.dilation_w;
      const uint8_t* pixel = item.data.input;
      if (any_taps) pixel += ((n * call_.h + h) * call_.w + w) * s.in_channels;
      const int64_t wanted = std::min(width - x, last - pixels.count);
      for (int64_t i = 0; i < wanted; ++i) codes[pixels.count + i] = pixel + i * step;
      add_pixels(item, pixels, wanted, geometry_.place(n, oy, ox), geometry_.place_step());
    }
  }

  const bool whole_;
  const kernels::Row<kernels::GatherFn>* gather_;
  const std::vector<uint8_t> padding_;
  std::vector<int32_t> whole_start_;
  std::vector<Part> parts_;
};

}  // namespace

std::unique_ptr<const Conv2dPlan::Driver> gathered_tiles_driver(ConvGeometry geometry, int threads,
                                                                bool whole) {
  return std::make_unique<const GatheredTiles>(std::move(geometry), threads, whole);
}

}  // namespace ptqx::engine
