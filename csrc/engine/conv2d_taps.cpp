// A driver for small maps and large weights. By regions, weights would be read once for every region; here
// they are read once: tap after tap meets the pixels it is valid for, and the accumulators of the whole map
// rest in memory between taps.

#include <algorithm>

#include "engine/conv2d_impl.h"

namespace ptqx::engine {
namespace {

using kernels::kGemmMaxNr;

constexpr int64_t kMostPixels = 49;        // a map of 7 x 7
constexpr int64_t kLeastBytes = 32 << 10;  // of a panel; a smaller one stays in the first-level cache

class TapConv final : public Conv2dPlan::Driver {
 public:
  explicit TapConv(ConvGeometry geometry) : geometry_(std::move(geometry)), layer_(geometry_.layer) {
    const ConvGeometry& g = geometry_;
    for (int64_t n = 0; n < g.call.n; ++n) {
      for (size_t row = 0; row < g.rows.size(); ++row) {
        for (int64_t y = g.rows[row].begin; y < g.rows[row].end; ++y) {
          for (size_t column = 0; column < g.columns.size(); ++column) {
            for (int64_t x = g.columns[column].begin; x < g.columns[column].end; ++x) {
              starts_.push_back(g.start(row, column));
              places_.push_back(g.place(n, y, x));
              samples_.push_back(n);
            }
          }
        }
      }
    }
    for (int64_t r = 0; r < layer_.shape.kernel_h; ++r) {
      for (int64_t t = 0; t < layer_.shape.kernel_w; ++t) add_tap(r, t);
    }
  }

  int64_t items() const override { return layer_.panels; }
  const char* kernel_name() const override { return layer_.gemm->name; }

  void run(const Conv2dData& data, int64_t begin, int64_t end) const override {
    for (int64_t panel = begin; panel < end; ++panel) run_panel(data, panel);
  }

 private:
  struct Tap {
    int64_t weight;                // dword of the panel
    std::vector<int64_t> inputs;   // offsets of the pixels it is valid for
    std::vector<int64_t> outputs;  // which output pixel each belongs to
  };

  void add_tap(int64_t r, int64_t t) {
    const Conv2dShape& s = layer_.shape;
    const Conv2dCall& call = geometry_.call;
    Tap tap{layer_.tap_dword(r, t), {}, {}};
    int64_t output = 0;
    for (int64_t n = 0; n < call.n; ++n) {
      for (int64_t y = 0; y < geometry_.oh; ++y) {
        for (int64_t x = 0; x < geometry_.ow; ++x, ++output) {
          const int64_t h = y * s.stride_h - s.pad_top + r * s.dilation_h;
          const int64_t w = x * s.stride_w - s.pad_left + t * s.dilation_w;
          if (h < 0 || h >= call.h || w < 0 || w >= call.w) continue;
          tap.inputs.push_back(((n * call.h + h) * call.w + w) * s.in_channels);
          tap.outputs.push_back(output);
        }
      }
    }
    taps_.push_back(std::move(tap));
  }

  void run_panel(const Conv2dData& data, int64_t panel) const {
    alignas(64) int32_t acc[kMostPixels * kGemmMaxNr];
    const int64_t nr = layer_.nr;
    const auto m = static_cast<int64_t>(places_.size());
    for (int64_t i = 0; i < m; ++i) {
      std::copy_n(starts_[static_cast<size_t>(i)] + panel * nr, nr, acc + i * nr);
    }
    for (const Tap& tap : taps_) multiply(data, tap, panel, acc);

    const kernels::Tail tail = tail_of(geometry_.call, data);
    float scales[kMostPixels];
    if (geometry_.call.scale_per_sample) {
      for (int64_t i = 0; i < m; ++i) scales[i] = data.sample_scale[samples_[static_cast<size_t>(i)]];
    }
    layer_.tail->function({.tail = &tail,
                           .channel = panel * nr,
                           .channels = std::min(nr, layer_.shape.out_channels - panel * nr),
                           .places = places_.data(),
                           .pixel_scale = geometry_.call.scale_per_sample ? scales : nullptr,
                           .output = data.output,
                           .scaled = false,
                           .bounded = geometry_.tail_bounded},
                          acc, 0, m, nr);
  }

  void multiply(const Conv2dData& data, const Tap& tap, int64_t panel, int32_t* acc) const {
    const int64_t nr = layer_.nr;
    const uint8_t* pixels[kMostPixels];
    int32_t* rows[kMostPixels];
    for (size_t i = 0; i < tap.inputs.size(); ++i) {
      pixels[i] = data.input + tap.inputs[i];
      rows[i] = acc + tap.outputs[i] * nr;
    }
    const kernels::GemmRun run{0, tap.weight, layer_.dwords};
    layer_.gemm->function({.pixels = pixels,
                           .m = static_cast<int64_t>(tap.inputs.size()),
                           .runs = &run,
                           .run_count = 1,
                           .panel = layer_.weights.data() + panel * layer_.panel_bytes,
                           .nr = nr,
                           .init = nullptr,
                           .acc = nullptr,
                           .acc_rows = rows,
                           .tail = nullptr,
                           .tail_args = nullptr,
                           .streamed = true});
  }

  const ConvGeometry geometry_;
  const PackedConv2d::Impl& layer_;
  std::vector<const int32_t*> starts_;  // [pixels]
  std::vector<int64_t> places_;         // [pixels]
  std::vector<int64_t> samples_;        // [pixels]
  std::vector<Tap> taps_;
};

}  // namespace

bool can_run_by_taps(const ConvGeometry& geometry) {
  const int64_t pixels = geometry.call.n * geometry.oh * geometry.ow;
  return geometry.corrected_at_start() && geometry.layer.shape.groups == 1 && pixels > 0 &&
         pixels <= kMostPixels;
}

bool suits_taps(const ConvGeometry& geometry) {
  return can_run_by_taps(geometry) && geometry.layer.panel_bytes >= kLeastBytes &&
         geometry.rows.size() * geometry.columns.size() > 1;
}

std::unique_ptr<const Conv2dPlan::Driver> taps_driver(ConvGeometry geometry) {
  return std::make_unique<const TapConv>(std::move(geometry));
}

}  // namespace ptqx::engine
