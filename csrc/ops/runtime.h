#pragma once

// What the library can tell about itself: for the Python module, which has no copy of the kernels.

#include <ATen/core/Tensor.h>

#include <cstdint>
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

// Of the engine that engine_run makes of the same `program`. All throw std::invalid_argument.

PTQX_EXPORT std::string engine_describe(const at::Tensor& program);
PTQX_EXPORT std::vector<engine::StepInfo> engine_steps(const at::Tensor& program);

/// Bytes that a run holds beside its input and its output.
struct EngineMemory {
  size_t program, packed, arena;  // pages of the program in main memory; weights and plan; activations
};
PTQX_EXPORT EngineMemory engine_memory(const at::Tensor& program, int64_t batch, int threads);

/// Engine::profile on `batch` random samples.
PTQX_EXPORT std::vector<engine::StepProfile> engine_profile(const at::Tensor& program, int64_t batch,
                                                            int rounds);

PTQX_EXPORT std::vector<engine::TunableStep> engine_tunable_steps(const at::Tensor& program, int64_t batch,
                                                                  int threads);
/// Engine::tune on torch's threads.
PTQX_EXPORT std::vector<engine::TunedStep> engine_tune(const at::Tensor& program,
                                                       const std::vector<engine::TunableStep>& steps,
                                                       double seconds);
/// As engine::tuning_machine.
PTQX_EXPORT std::string tuning_machine();

/// As engine::measure_machine.
PTQX_EXPORT engine::MachineRates measure_machine(int threads, double seconds, int64_t buffer_bytes);

}  // namespace ptqx::ops
