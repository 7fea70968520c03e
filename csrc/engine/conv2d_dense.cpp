// The driver of the gemm kernels: which pixels meet which panels, and who computes them.

#include <algorithm>
#include <bit>

#include "engine/conv2d_impl.h"

namespace ptqx::engine {
namespace {

using kernels::ConvTailArgs;
using kernels::GemmArgs;
using kernels::GemmRun;
using kernels::kGemmMaxNr;

constexpr int64_t kChunkPixels = 96;  // a multiple of the heights of all tiles
constexpr int64_t kLeastChunkPixels = kChunkPixels / 4;
constexpr int64_t kBlockBytes = 256 << 10;  // of panels that stay in the second-level cache
constexpr int64_t kItemsPerThread = 4;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t panels_of(const PackedConv2d::Impl& layer) { return layer.bundles() * layer.panels; }

/// Chunks of all regions.
int64_t chunk_count(const ConvGeometry& geometry, int64_t chunk_pixels) {
  int64_t count = 0;
  for (const AxisSegment& row : geometry.rows) {
    for (const AxisSegment& column : geometry.columns) {
      count += ceil_div(geometry.call.n * row.size() * column.size(), chunk_pixels);
    }
  }
  return count;
}

/// Output pixels, of all samples, that share their valid taps.
struct Region {
  const AxisSegment* row;
  const AxisSegment* column;
  const int32_t* start;                    // [padded]
  std::vector<std::vector<GemmRun>> runs;  // [slices]
  int64_t pixels;
  int64_t first_chunk;
  int64_t chunks;
};

/// Up to kChunkPixels pixels of one region.
struct Chunk {
  // Not an aggregate, so that the arrays are left as they are.
  Chunk(const Conv2dData& run_data, const kernels::Tail& run_tail) : data(run_data), tail(run_tail) {}

  const Conv2dData& data;
  const kernels::Tail& tail;
  const Region* region = nullptr;
  int64_t m = 0;
  const uint8_t* pixels[kChunkPixels];  // input of the first valid tap, channel 0
  int64_t places[kChunkPixels];
  int32_t zero_points[kChunkPixels];  // if they are not corrected at the start
  float scales[kChunkPixels];         // if there is a scale per sample
};

/// What is still to be subtracted from an accumulator: zero_point[m] * sums[c] + box[m] * weight zero
/// point[c].
struct Correction {
  const int32_t* input_zero_points;   // [m]
  const int32_t* sums;                // [nr]
  const int32_t* box;                 // [m], or null
  const int32_t* weight_zero_points;  // [nr]
};

void correct(const Correction& c, int64_t m, int64_t nr, int32_t* acc) {
  for (int64_t i = 0; i < m; ++i, acc += nr) {
    for (int64_t j = 0; j < nr; ++j) acc[j] = subtract_product(acc[j], c.input_zero_points[i], c.sums[j]);
    if (c.box == nullptr) continue;
    for (int64_t j = 0; j < nr; ++j) acc[j] = subtract_product(acc[j], c.box[i], c.weight_zero_points[j]);
  }
}

class DenseConv final : public Conv2dPlan::Driver {
 public:
  DenseConv(ConvGeometry geometry, const DenseSplit& split)
      : geometry_(std::move(geometry)),
        layer_(geometry_.layer),
        call_(geometry_.call),
        blocks_(ceil_div(panels_of(layer_), split.block_panels)),
        panels_(panels_of(layer_)) {
    for (size_t r = 0; r < geometry_.rows.size(); ++r) {
      for (size_t c = 0; c < geometry_.columns.size(); ++c) add_region(r, c);
    }
    for (Region& region : regions_) {
      region.first_chunk = chunks_;
      region.chunks = ceil_div(region.pixels, split.chunk_pixels);
      chunks_ += region.chunks;
    }
  }

  int64_t items() const override { return blocks_ * chunks_; }
  const char* kernel_name() const override { return layer_.gemm->name; }

  /// Items with the same panels follow one another, so that these stay in the cache.
  void run(const Conv2dData& data, int64_t begin, int64_t end) const override {
    const kernels::Tail tail = tail_of(call_, data);
    for (int64_t item = begin; item < end; ++item) run_item(data, tail, item);
  }

 private:
  void run_item(const Conv2dData& data, const kernels::Tail& tail, int64_t item) const {
    const int64_t block = item / chunks_;
    Chunk chunk(data, tail);
    locate(item % chunks_, chunk);
    const int64_t end = panels_ * (block + 1) / blocks_;
    if (geometry_.corrected_at_start()) {
      run_fused(chunk, panels_ * block / blocks_, end);
    } else {
      run_corrected(chunk, panels_ * block / blocks_, end);
    }
  }

  void add_region(size_t row, size_t column) {
    Region region{
        &geometry_.rows[row], &geometry_.columns[column], geometry_.start(row, column), {}, 0, 0, 0};
    region.pixels = call_.n * region.row->size() * region.column->size();
    for (int64_t slice = 0; slice < layer_.slices; ++slice) region.runs.push_back(runs(region, slice));
    regions_.push_back(std::move(region));
  }

  /// Whether the region's taps are whole rows that are packed as strings.
  bool by_rows(const Region& region) const {
    return layer_.row_dwords > 0 && region.column->taps() == layer_.shape.kernel_w;
  }

  std::vector<GemmRun> row_runs(const Region& region) const {
    std::vector<GemmRun> result;
    for (int64_t r = 0; r < region.row->taps(); ++r) {
      result.push_back({.input = r * layer_.shape.dilation_h * call_.w * layer_.shape.in_channels,
                        .weight = (region.row->tap_begin + r) * layer_.string_step,
                        .dwords = layer_.row_dwords});
    }
    return result;
  }

  std::vector<GemmRun> runs(const Region& region, int64_t slice) const {
    if (by_rows(region)) return row_runs(region);
    const Conv2dShape& s = layer_.shape;
    const int64_t first = layer_.slice_begin(slice);
    const int64_t dwords = ceil_div(layer_.slice_end(slice) - first, 4);
    // Neighbouring taps of a row lie side by side in the input as in the panel.
    const bool side_by_side =
        s.groups == 1 && s.dilation_w == 1 && layer_.slices == 1 && s.in_channels % 4 == 0;
    const int64_t taps = side_by_side ? region.column->taps() : 1;
    std::vector<GemmRun> result;
    for (int64_t r = 0; r < region.row->taps(); ++r) {
      for (int64_t t = 0; t < region.column->taps(); t += taps) {
        result.push_back(
            {.input = (r * s.dilation_h * call_.w + t * s.dilation_w) * s.in_channels + first,
             .weight = layer_.tap_dword(region.row->tap_begin + r, region.column->tap_begin + t) + first / 4,
             .dwords = taps * dwords});
      }
    }
    return result;
  }

  void locate(int64_t index, Chunk& chunk) const {
    const Region* region = regions_.data();
    while (index >= region->first_chunk + region->chunks) ++region;
    index -= region->first_chunk;
    const int64_t begin = region->pixels * index / region->chunks;
    chunk.region = region;
    chunk.m = region->pixels * (index + 1) / region->chunks - begin;
    const Conv2dShape& s = layer_.shape;
    const int64_t width = region->column->size();
    const bool any_taps = region->row->taps() > 0 && region->column->taps() > 0;
    int64_t line = begin / width;  // of all samples
    int64_t x = begin % width;
    for (int64_t i = 0; i < chunk.m; ++line, x = 0) {
      const int64_t n = line / region->row->size();
      const int64_t oy = region->row->begin + line % region->row->size();
      const int64_t ox = region->column->begin + x;
      const int64_t h = oy * s.stride_h - s.pad_top + region->row->tap_begin * s.dilation_h;
      const int64_t w = ox * s.stride_w - s.pad_left + region->column->tap_begin * s.dilation_w;
      const uint8_t* pixel =
          any_taps ? chunk.data.input + ((n * call_.h + h) * call_.w + w) * s.in_channels : chunk.data.input;
      const int64_t step = any_taps ? s.stride_w * s.in_channels : 0;
      int64_t place = geometry_.place(n, oy, ox);
      const int64_t end = std::min(i + width - x, chunk.m);
      if (call_.scale_per_sample) std::fill(chunk.scales + i, chunk.scales + end, chunk.data.sample_scale[n]);
      if (!geometry_.corrected_at_start()) {
        std::fill(chunk.zero_points + i, chunk.zero_points + end, geometry_.input_zero_point(chunk.data, n));
      }
      for (; i < end; ++i, pixel += step, place += geometry_.place_step()) {
        chunk.pixels[i] = pixel;
        chunk.places[i] = place;
      }
    }
  }

  GemmArgs gemm_args(const Chunk& chunk, int64_t slice, int64_t panel) const {
    const std::vector<GemmRun>& runs = chunk.region->runs[static_cast<size_t>(slice)];
    return {.pixels = chunk.pixels,
            .m = chunk.m,
            .runs = runs.data(),
            .run_count = static_cast<int64_t>(runs.size()),
            .panel = by_rows(*chunk.region) ? layer_.row_weights.data() + panel * layer_.row_panel_bytes()
                                            : layer_.weights.data() + panel * layer_.panel_bytes,
            .nr = layer_.nr,
            .init = chunk.region->start + panel * layer_.nr,
            .acc = nullptr,
            .acc_rows = nullptr,
            .tail = layer_.tail->function,
            .tail_args = nullptr,
            .streamed = chunks_ == 1 && runs.size() == 1};
  }

  ConvTailArgs tail_args(const Chunk& chunk, int64_t panel) const {
    const int64_t first = panel % layer_.panels * layer_.nr;
    const int64_t group = layer_.bundle * layer_.out_group;
    const int64_t channel = panel / layer_.panels * group + first;
    return {.tail = &chunk.tail,
            .channel = channel,
            .channels = std::min({layer_.nr, group - first, layer_.shape.out_channels - channel}),
            .places = chunk.places,
            .pixel_scale = call_.scale_per_sample ? chunk.scales : nullptr,
            .output = chunk.data.output,
            .scaled = layer_.slices > 1,
            .bounded = geometry_.tail_bounded};
  }

  /// Moves the pixels' pointers from one group's input channels to another's.
  void move_to_group(Chunk& chunk, int64_t from, int64_t to) const {
    if (from == to) return;
    const int64_t channels = (to - from) * layer_.bundle * layer_.in_group;
    for (int64_t i = 0; i < chunk.m; ++i) chunk.pixels[i] += channels;
  }

  void run_fused(Chunk& chunk, int64_t panel, int64_t panel_end) const {
    for (int64_t group = 0; panel < panel_end; ++panel) {
      move_to_group(chunk, group, panel / layer_.panels);
      group = panel / layer_.panels;
      GemmArgs args = gemm_args(chunk, 0, panel);
      const ConvTailArgs tail = tail_args(chunk, panel);
      args.tail_args = &tail;
      layer_.gemm->function(args);
    }
  }

  void run_corrected(Chunk& chunk, int64_t panel, int64_t panel_end) const {
    alignas(64) int32_t acc[kChunkPixels * kGemmMaxNr];
    alignas(64) int32_t values[kChunkPixels * kGemmMaxNr];  // bits of float32
    int32_t box[kChunkPixels];
    for (int64_t group = 0; panel < panel_end; ++panel) {
      move_to_group(chunk, group, panel / layer_.panels);
      group = panel / layer_.panels;
      for (int64_t slice = 0; slice < layer_.slices; ++slice) {
        if (!layer_.zero_points.empty()) sum_boxes(chunk, slice, acc, box);
        GemmArgs args = gemm_args(chunk, slice, panel);
        args.acc = acc;
        layer_.gemm->function(args);
        subtract_zero_points(chunk, slice, panel, box, acc);
        if (layer_.slices > 1) add_slice(chunk, slice, tail_args(chunk, panel), acc, values);
      }
      layer_.tail->function(tail_args(chunk, panel), layer_.slices > 1 ? values : acc, 0, chunk.m, layer_.nr);
    }
  }

  /// box[m]: the sum of the input codes that pixel m's valid taps see.
  void sum_boxes(const Chunk& chunk, int64_t slice, int32_t* acc, int32_t* box) const {
    constexpr int64_t kWidth = 16;
    constexpr int32_t kZeros[kWidth] = {};
    const std::vector<GemmRun>& runs = chunk.region->runs[static_cast<size_t>(slice)];
    layer_.gemm->function({.pixels = chunk.pixels,
                           .m = chunk.m,
                           .runs = runs.data(),
                           .run_count = static_cast<int64_t>(runs.size()),
                           .panel = layer_.ones.data(),
                           .nr = kWidth,
                           .init = kZeros,
                           .acc = acc,
                           .acc_rows = nullptr,
                           .tail = nullptr,
                           .tail_args = nullptr,
                           .streamed = false});
    for (int64_t i = 0; i < chunk.m; ++i) box[i] = acc[i * kWidth];
  }

  void subtract_zero_points(const Chunk& chunk, int64_t slice, int64_t panel, const int32_t* box,
                            int32_t* acc) const {
    int32_t sums[kGemmMaxNr];
    const int64_t channel = panel * layer_.nr;
    geometry_.region_sums(*chunk.region->row, *chunk.region->column, slice, channel, layer_.nr, sums);
    const bool has_zero_points = !layer_.zero_points.empty();
    correct({.input_zero_points = chunk.zero_points,
             .sums = sums,
             .box = has_zero_points ? box : nullptr,
             .weight_zero_points = has_zero_points ? layer_.zero_points.data() + channel : nullptr},
            chunk.m, layer_.nr, acc);
  }

  /// values += float32(acc) * multiplier of the slice; the first slice starts the sum.
  void add_slice(const Chunk& chunk, int64_t slice, const ConvTailArgs& tail, const int32_t* acc,
                 int32_t* values) const {
    const float* multiplier = call_.tail.multiplier + slice * layer_.shape.out_channels + tail.channel;
    for (int64_t i = 0; i < chunk.m; ++i) {
      for (int64_t j = 0; j < tail.channels; ++j) {
        const float m = tail.pixel_scale != nullptr ? tail.pixel_scale[i] * multiplier[j] : multiplier[j];
        const float product = static_cast<float>(acc[i * layer_.nr + j]) * m;
        int32_t& value = values[i * layer_.nr + j];
        value = std::bit_cast<int32_t>(slice == 0 ? product : std::bit_cast<float>(value) + product);
      }
    }
  }

  const ConvGeometry geometry_;
  const PackedConv2d::Impl& layer_;
  const Conv2dCall& call_;
  std::vector<Region> regions_;
  int64_t chunks_ = 0;
  int64_t blocks_;  // parts of the panels
  int64_t panels_;  // of all groups
};

}  // namespace

// As large as caches allow, and small enough that all workers get their share.
DenseSplit usual_split(const ConvGeometry& geometry, int threads) {
  const int64_t wanted = threads > 1 ? threads * kItemsPerThread : 1;
  const int64_t panels = panels_of(geometry.layer);
  DenseSplit split{kChunkPixels, std::clamp<int64_t>(kBlockBytes / geometry.layer.panel_bytes, 1, panels)};
  while (chunk_count(geometry, split.chunk_pixels) * ceil_div(panels, split.block_panels) < wanted) {
    if (split.block_panels > 1) {
      split.block_panels = ceil_div(split.block_panels, 2);
    } else if (split.chunk_pixels > kLeastChunkPixels) {
      split.chunk_pixels /= 2;
    } else {
      break;
    }
  }
  return split;
}

std::vector<DenseSplit> dense_splits(const ConvGeometry& geometry, int threads) {
  const int64_t panels = panels_of(geometry.layer);
  const DenseSplit usual = usual_split(geometry, threads);
  std::vector<DenseSplit> splits = {usual};
  for (int64_t pixels = kLeastChunkPixels; pixels <= kChunkPixels; pixels *= 2) {
    for (const int64_t block : {int64_t{1}, ceil_div(usual.block_panels, 2), usual.block_panels, panels}) {
      const DenseSplit split{pixels, block};
      if (std::find(splits.begin(), splits.end(), split) == splits.end()) splits.push_back(split);
    }
  }
  return splits;
}

std::unique_ptr<const Conv2dPlan::Driver> dense_driver(ConvGeometry geometry, const DenseSplit& split) {
  return std::make_unique<const DenseConv>(std::move(geometry), split);
}

}  // namespace ptqx::engine
