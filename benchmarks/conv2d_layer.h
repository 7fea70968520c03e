#pragma once

// What the benchmarks of layers share: the same random weights and images, the same counters.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "engine/machine.h"
#include "networks.h"

namespace ptqx::benchmarks {

inline std::vector<uint8_t> random_bytes(int64_t size) {
  std::mt19937 random(1);
  std::vector<uint8_t> bytes(static_cast<size_t>(size));
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

/// Multiply-accumulates a second and core, from registers alone.
inline double ceiling() {
  static const double macs = engine::measure_machine(1, 0.25).u8s8_macs;
  return macs;
}

/// Multiply-accumulates per second of CPU time: `nominal` counts taps on padding, as published figures do;
/// `useful` does not. `useful_share` is the latter over the ceiling.
inline void set_rates(benchmark::State& state, const Layer& layer, int64_t batch) {
  const auto rate = [&](double macs) {
    return benchmark::Counter(static_cast<double>(batch) * macs,
                              benchmark::Counter::kIsIterationInvariantRate);
  };
  const auto useful = static_cast<double>(engine::useful_macs(layer.shape(), layer.size, layer.size));
  state.counters["useful"] = rate(useful);
  state.counters["nominal"] =
      rate(static_cast<double>(engine::nominal_macs(layer.shape(), layer.size, layer.size)));
  state.counters["useful_share"] = rate(useful / ceiling());
}

/// Registers NAME/network/layer/batch:N for every layer, as run(state, layer, batch).
template <class Run>
bool register_layers(const char* name, Run run) {
  for (const int64_t batch : {1, 8, 64}) {
    for (const Layer& layer : kLayers) {
      if (batch == 64 && layer.size > 32) continue;  // seconds a call, and nothing that batch 8 does not show
      const std::string full =
          std::string(name) + "/" + layer.network + "/" + layer.name + "/batch:" + std::to_string(batch);
      benchmark::RegisterBenchmark(full.c_str(), [run, &layer, batch](benchmark::State& state) {
        run(state, layer, batch);
      })->Unit(benchmark::kMicrosecond);
    }
  }
  return true;
}

}  // namespace ptqx::benchmarks
