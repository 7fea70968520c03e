#pragma once

// One layer with random weights and inputs, to be timed on its own.

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/conv2d.h"

namespace ptqx::engine {

/// uint8 in, uint8 out, bias, ReLU and requantization, as inside a network. `nominal_macs` counts taps on
/// padding, as published figures do; `useful_macs` does not.
class Conv2dTrial {
 public:
  /// Throws std::invalid_argument as PackedConv2d and Conv2dPlan do.
  Conv2dTrial(const Conv2dShape& shape, int64_t n, int64_t h, int64_t w, int threads);

  void run(const Executor& executor);

  const char* kernel_name() const { return packed_.kernel_name(); }
  double nominal_macs() const { return nominal_macs_; }
  double useful_macs() const { return useful_macs_; }

 private:
  PackedConv2d packed_;
  std::vector<uint8_t> input_, output_;
  std::vector<int32_t> bias_;
  std::vector<float> multiplier_;
  std::unique_ptr<const Conv2dPlan> plan_;
  double nominal_macs_, useful_macs_;
};

/// What a layer takes.
struct Conv2dTiming {
  const char* kernel;
  double seconds;  // of one run: the median of at least five samples
  double nominal_macs, useful_macs;
};

/// Runs it for about `seconds` with `threads` workers. Throws std::invalid_argument also if threads < 1 or
/// seconds <= 0.
Conv2dTiming time_conv2d(const Conv2dShape& shape, int64_t n, int64_t h, int64_t w, int threads,
                         double seconds);

}  // namespace ptqx::engine
