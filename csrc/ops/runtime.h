#pragma once

// What the library can tell about itself: for the Python module, which has no copy of the kernels.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/machine.h"

#define PTQX_EXPORT __attribute__((visibility("default")))

namespace ptqx::ops {

PTQX_EXPORT std::string isa_ceiling();
/// Throws std::invalid_argument for an unknown or unsupported name.
PTQX_EXPORT void set_isa_ceiling(const std::string& name);
PTQX_EXPORT std::vector<std::string> isas_known();
PTQX_EXPORT std::vector<std::string> isas_supported();

/// One row of one family of kernels; `chosen` under the present ceiling.
struct KernelRow {
  std::string family, name, isa;
  bool chosen;
};
PTQX_EXPORT std::vector<KernelRow> kernel_rows();

/// Engine::describe of a .ptqx file's bytes. Throws std::invalid_argument.
PTQX_EXPORT std::string engine_describe(std::span<const uint8_t> program);

/// Bytes that a run of a .ptqx file holds beside the file, its input and its output.
struct EngineMemory {
  size_t packed, arena;  // weights and plan; activations
};
/// Throws std::invalid_argument, also if batch < 0 or threads < 1.
PTQX_EXPORT EngineMemory engine_memory(std::span<const uint8_t> program, int64_t batch, int threads);

/// Engine::profile of a .ptqx file's bytes on `batch` random samples. Throws std::invalid_argument.
PTQX_EXPORT std::vector<engine::StepProfile> engine_profile(std::span<const uint8_t> program, int64_t batch,
                                                            int rounds);

/// As engine::measure_machine.
PTQX_EXPORT engine::MachineRates measure_machine(int threads, double seconds, int64_t buffer_bytes);

}  // namespace ptqx::ops
