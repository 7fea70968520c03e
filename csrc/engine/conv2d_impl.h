#pragma once

// What conv2d*.cpp share: packed layers and the plan of one call.

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>
#include <vector>

#include "engine/conv2d.h"
#include "kernels/conv_tail.h"
#include "kernels/depthwise.h"
#include "kernels/gemm.h"

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
/// [group][panel][tap][dwords][nr][4]; depthwise layers [channel / nr][kernel_w][quads][nr][4], where a
/// quad is four taps of one column. Arrays per channel are padded to whole panels.
struct PackedConv2d::Impl {
  Impl(const Conv2dShape& shape, const int8_t* weight, const int32_t* weight_zero_point, int64_t group_size);

  Conv2dShape shape;
  int64_t group_size;  // input channels per slice, 0 if there is one slice
  bool depthwise;      // one input and one output channel per group
  int64_t in_group;    // input channels of a group
  int64_t out_group;   // output channels of a group
  int64_t slices;      // parts of the input channels that are accumulated apart
  int64_t dwords;      // ceil(in_group / 4)
  int64_t nr;          // output channels of a panel
  int64_t panels;      // panels of a group
  int64_t padded;      // output channels with filling, of all groups
  int64_t panel_bytes;
  const kernels::Row<kernels::GemmFn>* gemm = nullptr;
  const kernels::Row<kernels::DepthwiseFn>* depthwise_row = nullptr;
  const kernels::Row<kernels::ConvTailFn>* tail;
  AlignedBytes weights;
  AlignedBytes ones;              // one panel, 16 wide, whose channels sum the input; for weight zero points
  std::vector<int32_t> tap_sums;  // [slices][taps][padded]: sum of weight - weight_zero_point
  std::vector<int32_t> zero_points;  // [padded] of the weights, or empty

  int64_t taps() const { return shape.kernel_h * shape.kernel_w; }
  int64_t slice_begin(int64_t slice) const { return slice * group_size; }
  int64_t slice_end(int64_t slice) const;
  int64_t padded_channel(int64_t oc) const;  // where an output channel is in arrays of `padded`

 private:
  void pack_dense(const int8_t* weight);
  void pack_ones();
  void pack_depthwise(const int8_t* weight);
  void sum_taps(const int8_t* weight, const int32_t* weight_zero_point);
};

/// One call with what follows from its shapes.
struct ConvPlan {
  ConvPlan(const PackedConv2d::Impl& layer, const Conv2dCall& call);

  const PackedConv2d::Impl& layer;
  const Conv2dCall& call;
  int64_t oh, ow;
  std::vector<AxisSegment> rows, columns;

  bool empty() const { return call.n == 0 || oh == 0 || ow == 0; }
  /// Whether what is subtracted from an accumulator is known before its pixel is: one input zero point, no
  /// weight zero points, one slice.
  bool corrected_at_start() const;
  /// Bytes of the array that fill_starts() writes.
  size_t starts_bytes() const;
  /// Where accumulators start: [row segments][column segments][padded], the bias less the zero point's
  /// share; [padded] if no correction is needed or it comes later.
  void fill_starts(int32_t* starts) const;
  const int32_t* start(const int32_t* starts, size_t row, size_t column) const;
  /// sums[j] = sum of tap_sums over the taps of the two segments, channels [channel, channel + count) of
  /// padded.
  void region_sums(const AxisSegment& row, const AxisSegment& column, int64_t slice, int64_t channel,
                   int64_t count, int32_t* sums) const;
  int32_t input_zero_point(int64_t sample) const {
    return call.input_zero_points != nullptr ? call.input_zero_points[sample] : call.input_zero_point;
  }

 private:
  bool starts_differ() const { return corrected_at_start() && call.input_zero_point != 0; }
};

/// acc - factor * value modulo 2^32.
inline int32_t subtract_product(int32_t acc, int32_t factor, int32_t value) {
  return static_cast<int32_t>(static_cast<uint32_t>(acc) -
                              static_cast<uint32_t>(factor) * static_cast<uint32_t>(value));
}

/// Whether conv2d_taps() can make the call and is the faster driver.
bool suits_taps(const ConvPlan& plan);

void conv2d_taps(const ConvPlan& plan, const Executor& executor, const int32_t* starts);
void conv2d_dense(const ConvPlan& plan, const Executor& executor, const int32_t* starts);
void conv2d_depthwise(const ConvPlan& plan, const Executor& executor, const int32_t* starts);

}  // namespace ptqx::engine
