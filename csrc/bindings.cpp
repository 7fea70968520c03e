// ptqx._C: what an operator's schema can't say. Importing it loads the operators.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include <map>
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

std::string engine_describe(const at::Tensor& program) {
  if (program.scalar_type() != at::kByte || program.dim() != 1 || !program.device().is_cpu()) {
    throw std::invalid_argument("program must be a uint8 tensor of one dimension on the CPU");
  }
  const at::Tensor bytes = program.contiguous();
  return ptqx::ops::engine_describe({bytes.const_data_ptr<uint8_t>(), static_cast<size_t>(bytes.numel())});
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
}
