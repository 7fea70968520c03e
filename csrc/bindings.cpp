// ptqx._C: what an operator's schema can't say. Importing it loads the operators.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include <map>
#include <span>
#include <tuple>

#include "ops/runtime.h"

namespace py = pybind11;

namespace {

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

/// The bytes of a .ptqx file in a tensor.
class Program {
 public:
  explicit Program(const at::Tensor& tensor) {
    if (tensor.scalar_type() != at::kByte || tensor.dim() != 1 || !tensor.device().is_cpu()) {
      throw std::invalid_argument("program must be a uint8 tensor of one dimension on the CPU");
    }
    bytes_ = tensor.contiguous();
  }
  operator std::span<const uint8_t>() const {
    return {bytes_.const_data_ptr<uint8_t>(), static_cast<size_t>(bytes_.numel())};
  }

 private:
  at::Tensor bytes_;
};

std::string engine_describe(const at::Tensor& program) {
  return ptqx::ops::engine_describe(Program(program));
}

std::map<std::string, size_t> engine_memory(const at::Tensor& program, int64_t batch, int threads) {
  const ptqx::ops::EngineMemory memory = ptqx::ops::engine_memory(Program(program), batch, threads);
  return {{"packed", memory.packed}, {"arena", memory.arena}};
}

std::map<std::string, double> measure_machine(int threads, double seconds, int64_t buffer_bytes) {
  const py::gil_scoped_release release;
  const ptqx::engine::MachineRates rates = ptqx::ops::measure_machine(threads, seconds, buffer_bytes);
  return {{"u8s8_macs", rates.u8s8_macs},
          {"f32_macs", rates.f32_macs},
          {"read_bytes", rates.read_bytes},
          {"copy_bytes", rates.copy_bytes}};
}

using StepTuple = std::tuple<std::string, std::string, std::string, int64_t, int64_t, double>;

std::vector<StepTuple> engine_profile(const at::Tensor& program, int64_t batch, int rounds) {
  const Program bytes(program);
  const py::gil_scoped_release release;
  std::vector<StepTuple> steps;
  for (const ptqx::engine::StepProfile& step : ptqx::ops::engine_profile(bytes, batch, rounds)) {
    steps.emplace_back(step.name, step.op, step.kernel, step.macs, step.useful_macs, step.seconds);
  }
  return steps;
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
      "engine_describe", &engine_describe, py::arg("program"),
      "One line a step of the .ptqx file whose bytes the uint8 tensor holds; ValueError if it is unusable.");
  m.def("engine_memory", &engine_memory, py::arg("program"), py::arg("batch"), py::arg("threads"),
        "Bytes that a run holds beside the file, its input and output: packed weights and plan; arena.");
  m.def("measure_machine", &measure_machine, py::arg("threads"), py::arg("seconds"),
        py::arg("buffer_bytes") = 0,
        "The most that this machine does in a second, all threads together: multiply-accumulates on u8 and "
        "s8 and in float32, bytes read from and copied in memory. `seconds` is for each of the four.");
  m.def("engine_profile", &engine_profile, py::arg("program"), py::arg("batch"), py::arg("rounds"),
        "(name, operation, kernel, MACs a sample, those of them without padding, seconds a batch) of each "
        "step of a .ptqx file, run on one thread on random samples; seconds are the median of the rounds.");
}
