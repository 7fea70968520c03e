// ptqx._C: what an operator's schema can't say. Importing it loads the operators.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "ops/runtime.h"

namespace py = pybind11;

namespace {

using namespace py::literals;
using ptqx::engine::TunableStep;
using ptqx::engine::TunedStep;

std::map<std::string, std::string> build_info() {
  return {{"version", PTQX_VERSION},
          {"torch_version", PTQX_TORCH_VERSION},
          {"compiler", PTQX_COMPILER},
          {"build_type", PTQX_BUILD_TYPE}};
}

/// What the CPU has, whether or not a kernel uses it.
std::map<std::string, bool> cpu_features() {
  __builtin_cpu_init();
  return {
      {"avx2", __builtin_cpu_supports("avx2") != 0},
      {"avx_vnni", __builtin_cpu_supports("avxvnni") != 0},
      {"avx512f", __builtin_cpu_supports("avx512f") != 0},
      {"avx512bw", __builtin_cpu_supports("avx512bw") != 0},
      {"avx512vnni", __builtin_cpu_supports("avx512vnni") != 0},
      {"avx512bf16", __builtin_cpu_supports("avx512bf16") != 0},
      {"avx512vbmi", __builtin_cpu_supports("avx512vbmi") != 0},
      {"avx512vpopcntdq", __builtin_cpu_supports("avx512vpopcntdq") != 0},
  };
}

using KernelTuple = std::tuple<std::string, std::string, std::string, bool>;

std::vector<KernelTuple> kernels() {
  std::vector<KernelTuple> rows;
  for (const ptqx::ops::KernelRow& row : ptqx::ops::kernel_rows()) {
    rows.emplace_back(row.family, row.name, row.isa, row.chosen);
  }
  return rows;
}

std::map<std::string, size_t> engine_memory(const at::Tensor& program, int64_t batch, int threads) {
  const ptqx::ops::EngineMemory memory = ptqx::ops::engine_memory(program, batch, threads);
  return {{"program", memory.program}, {"packed", memory.packed}, {"arena", memory.arena}};
}

template <class T>
py::list to_dicts(const std::vector<T>& values);

py::dict to_dict(const TunedStep& tuned) {
  return py::dict("name"_a = tuned.name, "samples"_a = tuned.samples, "threads"_a = tuned.threads,
                  "strategy"_a = tuned.strategy);
}

py::dict to_dict(const ptqx::engine::StepInfo& step) {
  return py::dict("name"_a = step.name, "op"_a = step.op, "kernel"_a = step.kernel,
                  "suits_tiles"_a = step.suits_tiles, "bytes"_a = step.bytes, "macs"_a = step.macs,
                  "useful_macs"_a = step.useful_macs, "tuned"_a = to_dicts(step.tuned));
}

py::dict to_dict(const ptqx::engine::StepProfile& step) {
  py::dict dict = to_dict(static_cast<const ptqx::engine::StepInfo&>(step));
  dict["seconds"] = step.seconds;
  dict["strategy"] = step.strategy;
  return dict;
}

py::dict to_dict(const TunableStep& step) {
  return py::dict("name"_a = step.name, "layer"_a = step.layer, "samples"_a = step.samples,
                  "threads"_a = step.threads, "strategies"_a = step.strategies);
}

template <class T>
py::list to_dicts(const std::vector<T>& values) {
  py::list dicts;
  for (const T& value : values) dicts.append(to_dict(value));
  return dicts;
}

/// What `call` gives, computed without the interpreter's lock.
template <class Call>
auto unlocked(const Call& call) {
  const py::gil_scoped_release release;
  return call();
}

py::list engine_steps(const at::Tensor& program) { return to_dicts(ptqx::ops::engine_steps(program)); }

py::list engine_profile(const at::Tensor& program, int64_t batch, int rounds) {
  return to_dicts(unlocked([&] { return ptqx::ops::engine_profile(program, batch, rounds); }));
}

py::list engine_tunable_steps(const at::Tensor& program, int64_t batch, int threads) {
  return to_dicts(ptqx::ops::engine_tunable_steps(program, batch, threads));
}

py::list engine_tune(const at::Tensor& program, const std::vector<py::dict>& dicts, double seconds) {
  std::vector<TunableStep> steps;
  for (const py::dict& step : dicts) {
    steps.push_back({.name = step["name"].cast<std::string>(),
                     .layer = step["layer"].cast<std::string>(),
                     .samples = step["samples"].cast<int64_t>(),
                     .threads = step["threads"].cast<int>(),
                     .strategies = step["strategies"].cast<std::vector<std::string>>()});
  }
  return to_dicts(unlocked([&] { return ptqx::ops::engine_tune(program, steps, seconds); }));
}

std::map<std::string, double> measure_machine(int threads, double seconds, int64_t buffer_bytes) {
  const py::gil_scoped_release release;
  const ptqx::engine::MachineRates rates = ptqx::ops::measure_machine(threads, seconds, buffer_bytes);
  return {{"u8s8_macs", rates.u8s8_macs},
          {"f32_macs", rates.f32_macs},
          {"read_bytes", rates.read_bytes},
          {"copy_bytes", rates.copy_bytes}};
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Instruction sets, kernels and build of ptqx.";
  m.def("isa_ceiling", &ptqx::ops::isa_ceiling, "The highest instruction set that kernels may use.");
  m.def("set_isa_ceiling", &ptqx::ops::set_isa_ceiling, py::arg("name"),
        "Sets it for this process; ValueError for a name that is unknown or that the CPU lacks.");
  m.def("isas_known", &ptqx::ops::isas_known, "Names of the instruction sets, lowest first.");
  m.def("isas_supported", &ptqx::ops::isas_supported, "Those that this CPU and operating system can run.");
  m.def("kernels", &kernels, "(family, row, instruction set, chosen now) for every kernel.");
  m.def("cpu_features", &cpu_features, "Whether the CPU has each feature.");
  m.def("build_info", &build_info, "Versions and compiler of this build.");
  m.def(
      "engine_describe", &ptqx::ops::engine_describe, py::arg("program"),
      "One line a step of the .ptqx file whose bytes the uint8 tensor holds; ValueError if it is unusable.");
  m.def("engine_steps", &engine_steps, py::arg("program"),
        "Each step: name, op, kernel, bytes written and macs a sample, useful_macs (those without padding), "
        "tuned (name, samples, threads, strategy of each choice).");
  m.def("engine_memory", &engine_memory, py::arg("program"), py::arg("batch"), py::arg("threads"),
        "Bytes that a run holds beside its input and output: pages of the program that are in main memory; "
        "packed weights and plan; arena.");
  m.def("measure_machine", &measure_machine, py::arg("threads"), py::arg("seconds"),
        py::arg("buffer_bytes") = 0,
        "The most that this machine does in a second, all threads together: multiply-accumulates on u8 and "
        "s8 and in float32, bytes read from and copied in memory. `seconds` is for each of the four.");
  m.def(
      "engine_profile", &engine_profile, py::arg("program"), py::arg("batch"), py::arg("rounds"),
      "As engine_steps, with the seconds of a batch, run on one thread on random samples: the median of the "
      "rounds.");
  m.def(
      "engine_tunable_steps", &engine_tunable_steps, py::arg("program"), py::arg("batch"), py::arg("threads"),
      "The steps that can be computed in several ways in a run of that size: name, layer, samples, threads, "
      "strategies, the usual one first.");
  m.def("engine_tune", &engine_tune, py::arg("program"), py::arg("steps"), py::arg("seconds"),
        "Measures the strategies of these steps on torch's threads; the choice for each: name, samples, "
        "threads, strategy.");
  m.def("tuning_machine", &ptqx::ops::tuning_machine,
        "What choices hold for: processor, instruction set, version.");
}
