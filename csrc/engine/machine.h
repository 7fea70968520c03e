#pragma once

// What this machine can do at most, measured. Layers are judged as a share of it.

#include <cstdint>

#include "engine/conv2d.h"

namespace ptqx::engine {

/// Per second, all threads together. The best of several short runs: what disturbs them only lowers it.
struct MachineRates {
  double u8s8_macs;   // multiply-accumulates of the best allowed instruction, from registers alone
  double f32_macs;    // the same in float32
  double read_bytes;  // read from buffers that no cache holds
  double copy_bytes;  // read plus written, by memcpy between such buffers
};

/// Sizes of caches in bytes; 1 and 32 MiB where the system does not say.
int64_t second_level_cache_bytes();
int64_t last_level_cache_bytes();

/// `seconds` is for each of the four. `buffer_bytes` is shared out to the threads; 0 means four times the
/// last-level cache. Throws std::invalid_argument if threads < 1 or seconds <= 0 or buffer_bytes < 0.
MachineRates measure_machine(int threads, double seconds, int64_t buffer_bytes = 0);

}  // namespace ptqx::engine
