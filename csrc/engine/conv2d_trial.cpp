#include "engine/conv2d_trial.h"

#include <algorithm>
#include <chrono>
#include <random>
#include <stdexcept>
#include <string>

namespace ptqx::engine {
namespace {

std::vector<uint8_t> random_bytes(int64_t size) {
  std::mt19937 random(1);
  std::vector<uint8_t> bytes(static_cast<size_t>(size));
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

PackedConv2d random_layer(const Conv2dShape& s) {
  const int64_t in_group = s.groups > 0 ? s.in_channels / s.groups : 0;
  const std::vector<uint8_t> weight =
      random_bytes(std::max<int64_t>(s.out_channels * in_group * s.kernel_h * s.kernel_w, 0));
  return PackedConv2d(s, reinterpret_cast<const int8_t*>(weight.data()));
}

/// Pairs of output and tap that meet on the input, along one axis.
int64_t axis_taps(int64_t outputs, int64_t inputs, int64_t kernel, int64_t stride, int64_t pad,
                  int64_t dilation) {
  int64_t count = 0;
  for (int64_t output = 0; output < outputs; ++output) {
    for (int64_t tap = 0; tap < kernel; ++tap) {
      const int64_t position = output * stride - pad + tap * dilation;
      if (position >= 0 && position < inputs) ++count;
    }
  }
  return count;
}

}  // namespace

Conv2dTrial::Conv2dTrial(const Conv2dShape& shape, int64_t n, int64_t h, int64_t w, int threads)
    : packed_(random_layer(shape)),
      bias_(static_cast<size_t>(shape.out_channels), 1000),
      multiplier_(static_cast<size_t>(shape.out_channels), 0.001F) {
  Conv2dCall call{.n = n, .h = h, .w = w, .tail = {}};
  call.tail.bias = bias_.data();
  call.tail.multiplier = multiplier_.data();
  call.tail.activation = {.kind = kernels::Activation::kClip, .low = 0.0F, .high = 1e30F};
  plan_ = std::make_unique<const Conv2dPlan>(packed_, call, threads);
  const int64_t oh = shape.output_h(h);
  const int64_t ow = shape.output_w(w);
  input_ = random_bytes(n * h * w * shape.in_channels + static_cast<int64_t>(packed_.input_slack()));
  output_.resize(static_cast<size_t>(n * oh * ow * shape.out_channels));
  const auto per_tap = static_cast<double>(n * shape.out_channels * (shape.in_channels / shape.groups));
  nominal_macs_ = per_tap * static_cast<double>(oh * ow * shape.kernel_h * shape.kernel_w);
  useful_macs_ =
      per_tap *
      static_cast<double>(axis_taps(oh, h, shape.kernel_h, shape.stride_h, shape.pad_top, shape.dilation_h) *
                          axis_taps(ow, w, shape.kernel_w, shape.stride_w, shape.pad_left, shape.dilation_w));
}

void Conv2dTrial::run(const Executor& executor) {
  const Conv2dData data{.input = input_.data(), .output = output_.data()};
  executor.parallel_for(plan_->items(), [&](int64_t begin, int64_t end) { plan_->run(data, begin, end); });
}

Conv2dTiming time_conv2d(const Conv2dShape& shape, int64_t n, int64_t h, int64_t w, int threads,
                         double seconds) {
  using Clock = std::chrono::steady_clock;
  if (!(seconds > 0))
    throw std::invalid_argument("seconds: expected a positive time, got " + std::to_string(seconds));
  const ThreadExecutor executor(threads);
  Conv2dTrial trial(shape, n, h, w, threads);
  const auto sample = [&](int64_t repeats) {
    const Clock::time_point start = Clock::now();
    for (int64_t i = 0; i < repeats; ++i) trial.run(executor);
    return std::chrono::duration<double>(Clock::now() - start).count() / static_cast<double>(repeats);
  };
  constexpr int kSamples = 5;
  sample(1);
  const double once = std::max(sample(1), 1e-9);
  const auto repeats = std::max<int64_t>(static_cast<int64_t>(seconds / kSamples / once), 1);
  std::vector<double> times;
  for (int i = 0; i < kSamples; ++i) times.push_back(sample(repeats));
  std::nth_element(times.begin(), times.begin() + kSamples / 2, times.end());
  return {.kernel = trial.kernel_name(),
          .seconds = times[kSamples / 2],
          .nominal_macs = trial.nominal_macs(),
          .useful_macs = trial.useful_macs()};
}

}  // namespace ptqx::engine
