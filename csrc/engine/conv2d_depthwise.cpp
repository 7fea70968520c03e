// The driver of the depthwise kernels: one output row and one block of channels at a time.

#include <algorithm>

#include "engine/conv2d_impl.h"

namespace ptqx::engine {
namespace {

using kernels::DepthwiseSegment;
using kernels::kDepthwiseChannels;

constexpr int64_t kStripPixels = 32;  // so that their columns and accumulators stay in the first-level cache
constexpr int64_t kItemsPerThread = 4;

class DepthwiseConv final : public Conv2dPlan::Driver {
 public:
  DepthwiseConv(ConvGeometry geometry, int threads)
      : geometry_(std::move(geometry)), layer_(geometry_.layer), call_(geometry_.call) {
    const Conv2dShape& s = layer_.shape;
    quads_ = (s.kernel_h + 3) / 4;
    const int64_t columns = kernels::kDepthwiseWorkBytes / (quads_ * kDepthwiseChannels * 4);
    const int64_t span = s.dilation_w * (s.kernel_w - 1) + 1;
    strip_pixels_ = std::min(kStripPixels, (columns - span) / s.stride_w + 1);
    const int64_t lines = std::max<int64_t>(call_.n * geometry_.oh, 1);
    blocks_ = threads == 1 ? 1 : std::clamp<int64_t>(threads * kItemsPerThread / lines, 1, layer_.panels);
  }

  int64_t items() const override { return geometry_.ow == 0 ? 0 : call_.n * geometry_.oh * blocks_; }
  const char* kernel_name() const override { return layer_.depthwise_row->name; }

  void run(const Conv2dData& data, int64_t begin, int64_t end) const override {
    const kernels::Tail tail = tail_of(call_, data);
    for (int64_t item = begin; item < end; ++item) run_item(data, tail, item);
  }

 private:
  struct Line {
    int64_t n, y;
    size_t segment;  // of geometry_.rows
  };

  void run_item(const Conv2dData& data, const kernels::Tail& tail, int64_t item) const {
    const int64_t line = item / blocks_;
    const int64_t block = item % blocks_;
    Line place{.n = line / geometry_.oh, .y = line % geometry_.oh, .segment = 0};
    while (place.y >= geometry_.rows[place.segment].end) ++place.segment;
    for (int64_t panel = layer_.panels * block / blocks_; panel < layer_.panels * (block + 1) / blocks_;
         ++panel) {
      for (int64_t x = 0; x < geometry_.ow; x += strip_pixels_) {
        run_strip(data, tail, place, panel, x, std::min(x + strip_pixels_, geometry_.ow));
      }
    }
  }

  void run_strip(const Conv2dData& data, const kernels::Tail& tail, const Line& line, int64_t panel,
                 int64_t x_begin, int64_t x_end) const {
    const Conv2dShape& s = layer_.shape;
    const int64_t channel = panel * kDepthwiseChannels;
    const int64_t origin = x_begin * s.stride_w - s.pad_left;
    const int64_t first = std::clamp<int64_t>(origin, 0, call_.w);
    const int64_t last = (x_end - 1) * s.stride_w - s.pad_left + (s.kernel_w - 1) * s.dilation_w;
    alignas(64) uint8_t work[kernels::kDepthwiseWorkBytes];
    alignas(64) int32_t acc[kStripPixels * kDepthwiseChannels];
    alignas(64) int32_t starts[kStripPixels * kDepthwiseChannels];
    DepthwiseSegment segments[kStripPixels];
    const uint8_t* rows[kernels::kDepthwiseWorkBytes / (kDepthwiseChannels * 4) * 4];
    fill_rows(data.input, line, first, channel, rows);
    int64_t places[kStripPixels];
    float scales[kStripPixels];
    for (int64_t x = x_begin; x < x_end; ++x) {
      places[x - x_begin] = geometry_.place(line.n, line.y, x);
      if (call_.scale_per_sample) scales[x - x_begin] = data.sample_scale[line.n];
    }
    const int64_t channels = std::min(kDepthwiseChannels, s.out_channels - channel);
    const kernels::ConvTailArgs tail_args{.tail = &tail,
                                          .channel = channel,
                                          .channels = channels,
                                          .places = places,
                                          .pixel_scale = call_.scale_per_sample ? scales : nullptr,
                                          .output = data.output,
                                          .scaled = false,
                                          .bounded = geometry_.tail_bounded};
    layer_.depthwise_row->function(
        {.rows = rows,
         .quads = quads_,
         .columns = std::max<int64_t>(std::min(last + 1, call_.w) - first, 0),
         .column_bytes = s.in_channels,
         .first_column = origin - first,
         .stride = s.stride_w,
         .dilation = s.dilation_w,
         .channels = channels,
         .weights = layer_.weights.data() + panel * layer_.panel_bytes,
         .segments = segments,
         .segment_count = fill_segments(data, line, channel, x_begin, x_end, starts, segments),
         .acc = acc,
         .tail = layer_.tail->function,
         .tail_args = &tail_args,
         .work = work});
  }

  void fill_rows(const uint8_t* input, const Line& line, int64_t column, int64_t channel,
                 const uint8_t** rows) const {
    const Conv2dShape& s = layer_.shape;
    const AxisSegment& taps = geometry_.rows[line.segment];
    for (int64_t r = 0; r < 4 * quads_; ++r) {
      const int64_t h = line.y * s.stride_h - s.pad_top + r * s.dilation_h;
      const bool valid = r >= taps.tap_begin && r < taps.tap_end;
      rows[r] =
          valid ? input + ((line.n * call_.h + h) * call_.w + column) * s.in_channels + channel : nullptr;
    }
  }

  int64_t fill_segments(const Conv2dData& data, const Line& line, int64_t channel, int64_t x_begin,
                        int64_t x_end, int32_t* starts, DepthwiseSegment* segments) const {
    int64_t count = 0;
    for (size_t c = 0; c < geometry_.columns.size(); ++c) {
      const AxisSegment& column = geometry_.columns[c];
      const int64_t pixels = std::min(column.end, x_end) - std::max(column.begin, x_begin);
      if (pixels <= 0) continue;
      const int32_t* init = geometry_.start(line.segment, c) + channel;
      if (!geometry_.corrected_at_start()) {
        int32_t* start = starts + count * kDepthwiseChannels;
        int32_t sums[kDepthwiseChannels];
        geometry_.region_sums(geometry_.rows[line.segment], column, 0, channel, kDepthwiseChannels, sums);
        for (int64_t j = 0; j < kDepthwiseChannels; ++j) {
          start[j] = subtract_product(init[j], geometry_.input_zero_point(data, line.n), sums[j]);
        }
        init = start;
      }
      segments[count++] = {pixels, column.tap_begin, column.tap_end, init};
    }
    return count;
  }

  const ConvGeometry geometry_;
  const PackedConv2d::Impl& layer_;
  const Conv2dCall& call_;
  int64_t quads_;
  int64_t strip_pixels_;
  int64_t blocks_;  // parts of the channels
};

}  // namespace

std::unique_ptr<const Conv2dPlan::Driver> depthwise_driver(ConvGeometry geometry, int threads) {
  return std::make_unique<const DepthwiseConv>(std::move(geometry), threads);
}

}  // namespace ptqx::engine
