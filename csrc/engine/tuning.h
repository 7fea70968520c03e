#pragma once

// Some steps can be computed in several ways, called strategies. All give the same integers; which is the
// fastest depends on the machine, on the samples at a time and on the workers, and is found by measuring.

#include <cstdint>
#include <string>
#include <vector>

namespace ptqx::engine {

/// A step, on so many samples by so many workers, and its strategies.
struct TunableStep {
  std::string name;   // of the step
  std::string layer;  // its shapes: all that its speed depends on but samples, workers and machine
  int64_t samples;
  int threads;
  std::vector<std::string> strategies;  // the one that runs unasked first
};

/// The strategy chosen.
struct TunedStep {
  std::string name;
  int64_t samples;
  int threads;
  std::string strategy;
};

/// Where choices hold: processor, highest instruction set allowed now, version of ptqx.
std::string tuning_machine();

}  // namespace ptqx::engine
