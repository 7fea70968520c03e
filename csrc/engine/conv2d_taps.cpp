// A driver for small maps and large weights. By regions, weights would be read once for every region; here
// they are read once: tap after tap meets the pixels it is valid for, and the accumulators of the whole map
// rest in memory between taps.

#include <algorithm>

#include "engine/conv2d_impl.h"

namespace ptqx::engine {
namespace {

using kernels::kGemmMaxNr;

constexpr int64_t kMostPixels = 36;
constexpr int64_t kLeastBytes = 32 << 10;  // of a panel; a smaller one stays in the first-level cache

class TapConv {
 public:
  TapConv(const ConvPlan& plan, const int32_t* starts) : plan_(plan), layer_(plan.layer), call_(plan.call) {
    for (int64_t n = 0; n < call_.n; ++n) {
      for (size_t row = 0; row < plan.rows.size(); ++row) {
        for (int64_t y = plan.rows[row].begin; y < plan.rows[row].end; ++y) {
          for (size_t column = 0; column < plan.columns.size(); ++column) {
            for (int64_t x = plan.columns[column].begin; x < plan.columns[column].end; ++x) {
              starts_.push_back(plan.start(starts, row, column));
              places_.push_back(((n * plan.oh + y) * plan.ow + x) * layer_.shape.out_channels);
              if (call_.sample_scale != nullptr) scales_.push_back(call_.sample_scale[n]);
            }
          }
        }
      }
    }
    for (int64_t r = 0; r < layer_.shape.kernel_h; ++r) {
      for (int64_t t = 0; t < layer_.shape.kernel_w; ++t) add_tap(r, t);
    }
  }

  void run_panel(int64_t panel) const {
    alignas(64) int32_t acc[kMostPixels * kGemmMaxNr];
    const int64_t nr = layer_.nr;
    const auto m = static_cast<int64_t>(places_.size());
    for (int64_t i = 0; i < m; ++i) {
      std::copy_n(starts_[static_cast<size_t>(i)] + panel * nr, nr, acc + i * nr);
    }
    for (const Tap& tap : taps_) {
      int32_t* rows[kMostPixels];
      for (size_t i = 0; i < tap.pixels.size(); ++i) rows[i] = acc + tap.outputs[i] * nr;
      const kernels::GemmRun run{0, tap.index * layer_.dwords * nr * 4, layer_.dwords};
      layer_.gemm->function({.pixels = tap.pixels.data(),
                             .m = static_cast<int64_t>(tap.pixels.size()),
                             .runs = &run,
                             .run_count = 1,
                             .panel = layer_.weights.data() + panel * layer_.panel_bytes,
                             .nr = nr,
                             .init = nullptr,
                             .acc = nullptr,
                             .acc_rows = rows,
                             .tail = nullptr,
                             .tail_args = nullptr});
    }
    layer_.tail->function({.tail = &call_.tail,
                           .channel = panel * nr,
                           .channels = std::min(nr, layer_.shape.out_channels - panel * nr),
                           .places = places_.data(),
                           .pixel_scale = call_.sample_scale != nullptr ? scales_.data() : nullptr,
                           .output = call_.output,
                           .scaled = false},
                          acc, 0, m, nr);
  }

 private:
  struct Tap {
    int64_t index;
    std::vector<const uint8_t*> pixels;
    std::vector<int64_t> outputs;  // which output pixel each belongs to
  };

  void add_tap(int64_t r, int64_t t) {
    const Conv2dShape& s = layer_.shape;
    Tap tap{r * s.kernel_w + t, {}, {}};
    int64_t output = 0;
    for (int64_t n = 0; n < call_.n; ++n) {
      for (int64_t y = 0; y < plan_.oh; ++y) {
        for (int64_t x = 0; x < plan_.ow; ++x, ++output) {
          const int64_t h = y * s.stride_h - s.pad_top + r * s.dilation_h;
          const int64_t w = x * s.stride_w - s.pad_left + t * s.dilation_w;
          if (h < 0 || h >= call_.h || w < 0 || w >= call_.w) continue;
          tap.pixels.push_back(call_.input + ((n * call_.h + h) * call_.w + w) * s.in_channels);
          tap.outputs.push_back(output);
        }
      }
    }
    taps_.push_back(std::move(tap));
  }

  const ConvPlan& plan_;
  const PackedConv2d::Impl& layer_;
  const Conv2dCall& call_;
  std::vector<const int32_t*> starts_;  // [pixels]
  std::vector<int64_t> places_;
  std::vector<float> scales_;
  std::vector<Tap> taps_;
};

}  // namespace

bool suits_taps(const ConvPlan& plan) {
  const PackedConv2d::Impl& layer = plan.layer;
  return plan.corrected_at_start() && layer.shape.groups == 1 && layer.panel_bytes >= kLeastBytes &&
         plan.rows.size() * plan.columns.size() > 1 && plan.call.n * plan.oh * plan.ow <= kMostPixels;
}

void conv2d_taps(const ConvPlan& plan, const Executor& executor, const int32_t* starts) {
  const TapConv conv(plan, starts);
  executor.parallel_for(plan.layer.panels, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel) conv.run_panel(panel);
  });
}

}  // namespace ptqx::engine
