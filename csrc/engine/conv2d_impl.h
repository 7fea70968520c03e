#pragma once

// What conv2d*.cpp share: packed layers, the geometry of a call and the drivers.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "engine/arena.h"
#include "engine/conv2d.h"
#include "kernels/conv_tail.h"
#include "kernels/depthwise.h"
#include "kernels/gemm.h"
#include "kernels/tile_gemm.h"

namespace ptqx::engine {

/// Zeroed bytes on a cache line.
class AlignedBytes {
 public:
  static constexpr std::align_val_t kAlignment{64};

  explicit AlignedBytes(size_t size = 0);
  ~AlignedBytes() { ::operator delete(data_, kAlignment); }
  AlignedBytes(const AlignedBytes&) = delete;
  AlignedBytes& operator=(const AlignedBytes&) = delete;
  AlignedBytes& operator=(AlignedBytes&& other) noexcept {
    std::swap(size_, other.size_);
    std::swap(data_, other.data_);
    return *this;
  }

  int8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  size_t size_;
  int8_t* data_;
};

/// Outputs [begin, end) of one axis whose taps [tap_begin, tap_end) lie on the input; all others lie on
/// padding.
struct AxisSegment {
  int64_t begin, end;
  int64_t tap_begin, tap_end;

  int64_t size() const { return end - begin; }
  int64_t taps() const { return tap_end - tap_begin; }
};

std::vector<AxisSegment> axis_segments(int64_t outputs, int64_t inputs, int64_t kernel, int64_t stride,
                                       int64_t pad, int64_t dilation);

/// A panel is a block of at most `nr` output channels of one group. Dense layers keep panels
/// [group][panel][kernel_h][row_step][nr][4], a row being [kernel_w][dwords] and filling, and two dwords one
/// where all weights are codes of 4 bits (kernels/gemm.h); depthwise layers [channel /
/// nr][kernel_w][quads][nr][4], where a quad is four taps of one column. Arrays per channel are padded to
/// whole panels. Groups of 4 or 8 input and as many output channels share panels of 16 where there is a
/// kernel for that: "group" then means such a bundle, whose last one may lack some. Where channels do not
/// fill dwords, 3 of an image above all, a row of taps is packed once more as one string of bytes, as the
/// input has them: [panel][kernel_h][string_step][nr][4], for pixels whose rows of taps lie on the input from
/// end to end. For matrix units rows are filled up to whole steps with weights of 0, which whatever follows a
/// row in the input may meet.
struct PackedConv2d::Impl {
  Impl(const Conv2dShape& shape, const int8_t* weight, const int32_t* weight_zero_point, int64_t group_size,
       bool of_pairs = false);
  Impl(const Conv2dShape& shape, const uint8_t* weight, int64_t signs);

  Conv2dShape shape;
  int64_t group_size;  // input channels per slice, 0 if there is one slice
  bool depthwise;      // one input and one output channel per group
  int64_t in_group;    // input channels of a group
  int64_t out_group;   // output channels of a group
  int64_t slices;      // parts of the input channels that are accumulated apart
  int64_t dwords;      // ceil(in_group / 4)
  int64_t row_step;    // dwords from a row of taps to the next
  int64_t nr;          // output channels of a panel
  int64_t panels;      // panels of a group
  int64_t bundle = 1;  // groups that share a panel
  int64_t padded;      // output channels with filling, of all groups
  int64_t codes_per_byte = 1;
  bool binary = false;  // "channels" are bytes of eight signs
  bool tiles = false;   // a matrix unit may be used
  int64_t panel_bytes;
  const kernels::Row<kernels::GemmFn>* gemm = nullptr;
  const kernels::Row<kernels::DepthwiseFn>* depthwise_row = nullptr;
  const kernels::Row<kernels::ConvTailFn>* tail;
  AlignedBytes weights;
  int64_t row_dwords = 0;  // of a row of taps packed as one string, 0 if that saves nothing
  int64_t string_step = 0;
  AlignedBytes row_weights;
  AlignedBytes ones;  // one panel, 16 wide, whose channels sum the input; for weight zero points
  /// [slices][taps][padded]: sum of weight - weight_zero_point; of a binary layer, the signs of a tap. Empty
  /// where the input's zero point can only be 0.
  std::vector<int32_t> tap_sums;
  std::vector<int32_t> zero_points;  // [padded] of the weights, or empty
  bool sums_fit_winograd = false;    // see kernels/winograd.h, whatever the input
  /// For matrix units, where one takes all output channels: two neighbours of an output line as one pixel of
  /// twice the channels, with the taps of both, so that a tile of the input gives twice the outputs.
  std::unique_ptr<Impl> pairs;
  bool of_pairs = false;  // is another layer's `pairs`

  int64_t taps() const { return shape.kernel_h * shape.kernel_w; }
  size_t bytes() const;
  void forget_tap_sums() { tap_sums = {}; }
  /// Whether rows of taps come in whole steps of matrix units.
  bool rows_are_steps() const;
  int64_t tap_dword(int64_t row, int64_t column) const { return row * row_step + column * dwords; }
  int64_t row_panel_bytes() const { return shape.kernel_h * string_step * nr * 4; }
  /// Whether codes may be gathered for a matrix unit: not where pixels come in pairs, which is faster.
  bool gathers() const { return tiles && pairs == nullptr && !of_pairs; }
  /// What gathered steps that are not full read beyond a panel's end, the last one's too.
  int64_t step_slack() const {
    return gathers() && dwords % kernels::kTileDwords != 0 ? kernels::kTileDwords * nr * 4 : 0;
  }
  int64_t slice_begin(int64_t slice) const { return slice * group_size; }
  int64_t slice_end(int64_t slice) const;
  int64_t bundles() const { return (shape.groups + bundle - 1) / bundle; }
  int64_t padded_channel(int64_t oc) const;  // where an output channel is in arrays of `padded`

 private:
  int64_t groups_of_panel() const;
  bool fits_4_bits(const int8_t* weight) const;
  bool fills_steps() const;
  void pack_pairs(const int8_t* weight);
  void pack_dense(const int8_t* weight);
  void pack_rows(const int8_t* weight);
  void pack_ones();
  void pack_depthwise(const int8_t* weight);
  void sum_taps(const int8_t* weight, const int32_t* weight_zero_point);
  bool sums_fit(int64_t bits, const int8_t* weight) const;
};

/// A call with what follows from its shapes.
class ConvGeometry {
 public:
  ConvGeometry(const PackedConv2d::Impl& layer, const Conv2dCall& call);

  const PackedConv2d::Impl& layer;
  const Conv2dCall call;
  const int64_t oh, ow;
  const bool tail_bounded;  // see ConvTailArgs
  std::vector<AxisSegment> rows, columns;

  /// Whether what is subtracted from an accumulator is known before its pixel is: one input zero point, no
  /// weight zero points, one slice.
  bool corrected_at_start() const;
  /// Where the accumulators of a region start, [padded]: the bias, less the zero point's share if
  /// corrected_at_start().
  const int32_t* start(size_t row, size_t column) const;
  /// sums[j] = sum of tap_sums over the taps of the two segments, channels [channel, channel + count) of
  /// padded.
  void region_sums(const AxisSegment& row, const AxisSegment& column, int64_t slice, int64_t channel,
                   int64_t count, int32_t* sums) const;
  /// Where channel 0 of an output pixel lies in output and residual.
  int64_t place(int64_t n, int64_t y, int64_t x) const {
    const int64_t row = n * grid_.h + grid_.first_y + y * grid_.step_y;
    return (row * grid_.w + grid_.first_x + x * grid_.step_x) * layer.shape.out_channels;
  }
  /// From there to the next pixel of its line.
  int64_t place_step() const { return grid_.step_x * layer.shape.out_channels; }
  int64_t sample_size() const { return grid_.h * grid_.w * layer.shape.out_channels; }
  /// Pairs of an output pixel and a valid tap, of a sample.
  int64_t products() const;
  int32_t input_zero_point(const Conv2dData& data, int64_t sample) const {
    return call.zero_point_per_sample ? data.input_zero_points[sample] : call.input_zero_point;
  }

 private:
  bool starts_differ() const { return corrected_at_start() && call.input_zero_point != 0; }
  void fill_starts();

  const OutputGrid grid_;
  std::vector<int32_t> starts_;  // [row segments][column segments][padded], or [padded] if all are alike
};

/// One of the ways to compute a convolution.
class Conv2dPlan::Driver {
 public:
  virtual ~Driver() = default;
  virtual int64_t items() const = 0;
  virtual size_t scratch_bytes() const { return 0; }
  virtual const char* kernel_name() const = 0;
  virtual void run(const Conv2dData& data, int64_t begin, int64_t end) const = 0;
};

/// The tail of a call with the residual of a run.
inline kernels::Tail tail_of(const Conv2dCall& call, const Conv2dData& data) {
  kernels::Tail tail = call.tail;
  tail.residual = data.residual;
  return tail;
}

/// acc - factor * value modulo 2^32.
inline int32_t subtract_product(int32_t acc, int32_t factor, int32_t value) {
  return static_cast<int32_t>(static_cast<uint32_t>(acc) -
                              static_cast<uint32_t>(factor) * static_cast<uint32_t>(value));
}

/// Whether the driver by taps can make the call, and whether it should be the faster one.
bool can_run_by_taps(const ConvGeometry& geometry);
bool suits_taps(const ConvGeometry& geometry);

/// The same for Winograd's algorithm.
bool can_run_winograd(const ConvGeometry& geometry);
bool suits_winograd(const ConvGeometry& geometry);

/// What sixteen pixels are that meet the panels in a matrix unit (kernels/tile_gemm.h).
enum class TileRows : uint8_t {
  kValid,    // any that share their valid taps, whose codes are gathered
  kWhole,    // any, whose codes and padding are gathered
  kLines,    // neighbours in a line of padded input
  kPairs,    // the same, each of them two pixels (PackedConv2d::Impl::pairs)
  kSamples,  // one pixel of sixteen samples
};
bool can_run_tiles(const ConvGeometry& geometry, TileRows rows);
/// The fastest of them, if it should be faster than all vector kernels.
std::optional<TileRows> suitable_tiles(const ConvGeometry& geometry);

/// Memory that items need while they run, for all layers of all engines: there are as many blocks as items
/// are running.
BlockPool& conv2d_scratch();

/// How the driver by regions shares out its work: items are so many pixels of a region times so many panels.
struct DenseSplit {
  int64_t chunk_pixels, block_panels;
  bool operator==(const DenseSplit&) const = default;
};
/// The one that should be the fastest, and with it at the head all that are worth trying.
DenseSplit usual_split(const ConvGeometry& geometry, int threads);
std::vector<DenseSplit> dense_splits(const ConvGeometry& geometry, int threads);

std::unique_ptr<const Conv2dPlan::Driver> taps_driver(ConvGeometry geometry);
std::unique_ptr<const Conv2dPlan::Driver> winograd_driver(ConvGeometry geometry, int threads);
std::unique_ptr<const Conv2dPlan::Driver> tiles_driver(ConvGeometry geometry, int threads, TileRows rows);
std::unique_ptr<const Conv2dPlan::Driver> dense_driver(ConvGeometry geometry, const DenseSplit& split);
std::unique_ptr<const Conv2dPlan::Driver> depthwise_driver(ConvGeometry geometry, int threads);

}  // namespace ptqx::engine
