// The driver of the depthwise kernels: one output row and one block of channels at a time.

#include <algorithm>

#include "engine/conv2d_impl.h"

namespace ptqx::engine {
namespace {

using kernels::DepthwiseSegment;
using kernels::kDepthwiseChannels;

constexpr int64_t kStripPixels = 32;  // so that their columns and accumulators stay in the first-level cache
constexpr int64_t kItemsPerThread = 4;

class DepthwiseConv {
 public:
  DepthwiseConv(const ConvPlan& plan, const int32_t* starts, int threads)
      : plan_(plan), layer_(plan.layer), call_(plan.call), starts_(starts) {
    const Conv2dShape& s = layer_.shape;
    quads_ = (s.kernel_h + 3) / 4;
    const int64_t columns = kernels::kDepthwiseWorkBytes / (quads_ * kDepthwiseChannels * 4);
    const int64_t span = s.dilation_w * (s.kernel_w - 1) + 1;
    strip_pixels_ = std::min(kStripPixels, (columns - span) / s.stride_w + 1);
    const int64_t lines = call_.n * plan.oh;
    blocks_ = threads == 1 ? 1 : std::clamp<int64_t>(threads * kItemsPerThread / lines, 1, layer_.panels);
  }

  int64_t items() const { return call_.n * plan_.oh * blocks_; }

  void run_item(int64_t item) const {
    const int64_t line = item / blocks_;
    const int64_t block = item % blocks_;
    Line place{.n = line / plan_.oh, .y = line % plan_.oh, .segment = 0};
    while (place.y >= plan_.rows[place.segment].end) ++place.segment;
    for (int64_t panel = layer_.panels * block / blocks_; panel < layer_.panels * (block + 1) / blocks_;
         ++panel) {
      for (int64_t x = 0; x < plan_.ow; x += strip_pixels_) {
        run_strip(place, panel, x, std::min(x + strip_pixels_, plan_.ow));
      }
    }
  }

 private:
  struct Line {
    int64_t n, y;
    size_t segment;  // of plan.rows
  };

  void run_strip(const Line& line, int64_t panel, int64_t x_begin, int64_t x_end) const {
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
    fill_rows(line, first, channel, rows);
    const int64_t channels = std::min(kDepthwiseChannels, s.out_channels - channel);
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
         .segment_count = fill_segments(line, channel, x_begin, x_end, starts, segments),
         .acc = acc,
         .work = work});

    int64_t places[kStripPixels];
    float scales[kStripPixels];
    for (int64_t x = x_begin; x < x_end; ++x) {
      places[x - x_begin] = ((line.n * plan_.oh + line.y) * plan_.ow + x) * s.out_channels;
      if (call_.sample_scale != nullptr) scales[x - x_begin] = call_.sample_scale[line.n];
    }
    layer_.tail->function({.tail = &call_.tail,
                           .channel = channel,
                           .channels = channels,
                           .places = places,
                           .pixel_scale = call_.sample_scale != nullptr ? scales : nullptr,
                           .output = call_.output,
                           .scaled = false},
                          acc, 0, x_end - x_begin, kDepthwiseChannels);
  }

  void fill_rows(const Line& line, int64_t column, int64_t channel, const uint8_t** rows) const {
    const Conv2dShape& s = layer_.shape;
    const AxisSegment& taps = plan_.rows[line.segment];
    for (int64_t r = 0; r < 4 * quads_; ++r) {
      const int64_t h = line.y * s.stride_h - s.pad_top + r * s.dilation_h;
      const bool valid = r >= taps.tap_begin && r < taps.tap_end;
      rows[r] = valid ? call_.input + ((line.n * call_.h + h) * call_.w + column) * s.in_channels + channel
                      : nullptr;
    }
  }

  int64_t fill_segments(const Line& line, int64_t channel, int64_t x_begin, int64_t x_end, int32_t* starts,
                        DepthwiseSegment* segments) const {
    int64_t count = 0;
    for (size_t c = 0; c < plan_.columns.size(); ++c) {
      const AxisSegment& column = plan_.columns[c];
      const int64_t pixels = std::min(column.end, x_end) - std::max(column.begin, x_begin);
      if (pixels <= 0) continue;
      const int32_t* init = plan_.start(starts_, line.segment, c) + channel;
      if (!plan_.corrected_at_start()) {
        int32_t* start = starts + count * kDepthwiseChannels;
        int32_t sums[kDepthwiseChannels];
        plan_.region_sums(plan_.rows[line.segment], column, 0, channel, kDepthwiseChannels, sums);
        for (int64_t j = 0; j < kDepthwiseChannels; ++j) {
          start[j] = subtract_product(init[j], plan_.input_zero_point(line.n), sums[j]);
        }
        init = start;
      }
      segments[count++] = {pixels, column.tap_begin, column.tap_end, init};
    }
    return count;
  }

  const ConvPlan& plan_;
  const PackedConv2d::Impl& layer_;
  const Conv2dCall& call_;
  const int32_t* starts_;
  int64_t quads_;
  int64_t strip_pixels_;
  int64_t blocks_;  // parts of the channels
};

}  // namespace

void conv2d_depthwise(const ConvPlan& plan, const Executor& executor, const int32_t* starts) {
  const DepthwiseConv conv(plan, starts, executor.threads());
  executor.parallel_for(conv.items(), [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) conv.run_item(item);
  });
}

}  // namespace ptqx::engine
