#pragma once

// What the drivers of matrix units share (kernels/tile_gemm.h): they differ in what sixteen pixels are, and
// in where these come to lie at equal distances.

#include <functional>

#include "engine/conv2d_impl.h"
#include "kernels/tile_gemm.h"

namespace ptqx::engine {

class TileConv : public Conv2dPlan::Driver {
 public:
  int64_t items() const override { return blocks_ * chunks_; }
  const char* kernel_name() const override { return tile_gemm_->name; }
  size_t scratch_bytes() const override;
  /// Items with the same panels follow one another, so that these stay in the cache.
  void run(const Conv2dData& data, int64_t begin, int64_t end) const override;

  static constexpr int64_t kMostTiles = 32;  // of one product

 protected:
  static constexpr int64_t kMostPixels = kMostTiles * kernels::kTilePixels;
  static constexpr int64_t kMostColumns = 1024;  // of a block of panels
  explicit TileConv(ConvGeometry geometry);

  /// One item: a chunk of the pixels and a block of the panels.
  struct Item {
    const Conv2dData& data;
    const kernels::Tail& tail;
    uint8_t* codes;          // code_bytes_
    const int8_t* unpacked;  // the block's panels if they hold codes of 4 bits
    int64_t block;
  };

  /// Which dwords of the panels meet which codes of a pixel.
  struct Product {
    std::vector<kernels::TileStep> steps;
    const int32_t* start;  // [padded]
    bool strings = false;  // of the panels of row_weights
    int64_t pixel_step = 0;
  };

  struct Pixels {
    int64_t tile_count = 0;
    int64_t count = 0;
    kernels::PixelTile tiles[kMostTiles];
    int64_t places[kMostPixels];
    float scales[kMostPixels];  // if there is a scale per sample
  };

  /// So many more, whose outputs lie `step` apart from `place` on.
  void add_pixels(const Item& item, Pixels& pixels, int64_t count, int64_t place, int64_t step) const;

  /// Brings the chunk's codes to item.codes, and may say what its pixels are.
  virtual void prepare(const Item& item, int64_t chunk, Pixels& pixels) const = 0;
  /// After that, and for every block of panels.
  virtual void multiply_chunk(const Item& item, int64_t chunk, Pixels& pixels) const = 0;

  /// All channels of the item's panels.
  void multiply(const Item& item, const Product& product, const Pixels& pixels) const;

  /// Chooses blocks_ and chunks_: as large as caches allow, and small enough that all workers get their
  /// share. `chunks` counts the chunks, `smaller` makes them smaller if it can.
  void split(int threads, const std::function<int64_t()>& chunks, const std::function<bool()>& smaller);

  /// Steps of a row of taps, `input` being its first byte.
  void add_row_steps(Product& product, int64_t row, int64_t input) const;

  /// The bias, less the zero point's share of all taps: where padding holds the zero point too.
  std::vector<int32_t> start_of_all_taps() const;

  const ConvGeometry geometry_;
  const PackedConv2d::Impl& layer_;
  const Conv2dCall& call_;
  int64_t code_bytes_ = 0;
  int64_t chunks_ = 0;
  int64_t blocks_ = 1;

 private:
  int64_t panel_begin(int64_t block) const { return layer_.panels * block / blocks_; }
  bool unpacks() const { return layer_.codes_per_byte == 2; }
  void unpack(int64_t block, int8_t* panels) const;

  const kernels::Row<kernels::TileGemmFn>* tile_gemm_;
  const kernels::Row<kernels::UnpackPanelFn>* unpack_;
};

/// Whether output pixels are input pixels, all of them one line.
bool pixels_are_a_line(const ConvGeometry& geometry);
bool can_run_line_tiles(const ConvGeometry& geometry);
std::unique_ptr<const Conv2dPlan::Driver> gathered_tiles_driver(ConvGeometry geometry, int threads,
                                                                bool whole);
std::unique_ptr<const Conv2dPlan::Driver> line_tiles_driver(ConvGeometry geometry, int threads);
bool can_run_pair_tiles(const ConvGeometry& geometry);
std::unique_ptr<const Conv2dPlan::Driver> pair_tiles_driver(const ConvGeometry& geometry, int threads);
std::unique_ptr<const Conv2dPlan::Driver> sample_tiles_driver(ConvGeometry geometry, int threads);

}  // namespace ptqx::engine
