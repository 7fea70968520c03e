// Few output channels leave a matrix unit's columns empty. Two neighbours of an output line, taken as one
// pixel of twice the channels, fill them, and every tile of the input then gives twice the outputs: the same
// convolution with stride 2, a tap more in each row, and nothing else in memory.
//
//   columns         | pixel 0    pixel 1          codes of a row, two pixels apart
//   taps of a row   | w0 w1 w2 0    0 w0 w1 w2        x0 x1 x2 x3

#include <vector>

#include "engine/conv2d_tiles.h"

namespace ptqx::engine {
namespace {

/// What the tail has for each channel, for both pixels.
class PairedCall {
 public:
  explicit PairedCall(const ConvGeometry& geometry)
      : call_(geometry.call), channels_(geometry.layer.shape.out_channels) {
    kernels::Tail& tail = call_.tail;
    tail.bias = twice(tail.bias, bias_);
    tail.multiplier = twice(tail.multiplier, multiplier_);
    tail.bias_f32 = twice(tail.bias_f32, bias_f32_);
    tail.fixed_multiplier = twice(tail.fixed_multiplier, fixed_multiplier_);
    tail.shift = twice(tail.shift, shift_);
    if (tail.activation.kind == kernels::Activation::kPrelu) {
      tail.activation.slopes = twice(tail.activation.slopes, slopes_);
    }
  }
  PairedCall(const PairedCall&) = delete;
  PairedCall& operator=(const PairedCall&) = delete;

  const Conv2dCall& call() const { return call_; }

 private:
  template <class T>
  const T* twice(const T* values, std::vector<T>& both) const {
    if (values == nullptr) return nullptr;
    both.assign(values, values + channels_);
    both.insert(both.end(), values, values + channels_);
    return both.data();
  }

  Conv2dCall call_;
  const int64_t channels_;
  std::vector<int32_t> bias_, fixed_multiplier_, shift_;
  std::vector<float> multiplier_, bias_f32_, slopes_;
};

class PairTiles final : public Conv2dPlan::Driver {
 public:
  PairTiles(const ConvGeometry& geometry, int threads)
      : call_(geometry),
        lines_(line_tiles_driver(ConvGeometry(*geometry.layer.pairs, call_.call()), threads)) {}

  int64_t items() const override { return lines_->items(); }
  size_t scratch_bytes() const override { return lines_->scratch_bytes(); }
  const char* kernel_name() const override { return lines_->kernel_name(); }
  void run(const Conv2dData& data, int64_t begin, int64_t end) const override {
    lines_->run(data, begin, end);
  }

 private:
  const PairedCall call_;
  const std::unique_ptr<const Conv2dPlan::Driver> lines_;
};

}  // namespace

bool can_run_pair_tiles(const ConvGeometry& geometry) {
  const PackedConv2d::Impl* pairs = geometry.layer.pairs.get();
  return pairs != nullptr && !geometry.call.grid && geometry.oh > 0 && geometry.ow > 0 &&
         geometry.ow % 2 == 0 && geometry.ow / 2 <= TileConv::kMostTiles * kernels::kTilePixels;
}

std::unique_ptr<const Conv2dPlan::Driver> pair_tiles_driver(const ConvGeometry& geometry, int threads) {
  return std::make_unique<const PairTiles>(geometry, threads);
}

}  // namespace ptqx::engine
