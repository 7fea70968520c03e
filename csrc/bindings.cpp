// ptqx._C: what an operator's schema can't say. Importing it loads the operators.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include <array>
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

std::span<const uint8_t> bytes_of(const at::Tensor& program) {
  if (program.scalar_type() != at::kByte || program.dim() != 1 || !program.device().is_cpu() ||
      !program.is_contiguous()) {
    throw std::invalid_argument("program must be a contiguous uint8 tensor of one dimension on the CPU");
  }
  return {program.const_data_ptr<uint8_t>(), static_cast<size_t>(program.numel())};
}

std::string engine_describe(const at::Tensor& program) {
  return ptqx::ops::engine_describe(bytes_of(program));
}

std::map<std::string, size_t> engine_memory(const at::Tensor& program, int64_t batch, int threads) {
  const ptqx::ops::EngineMemory memory = ptqx::ops::engine_memory(bytes_of(program), batch, threads);
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

using Pair = std::array<int64_t, 2>;
using TimingTuple = std::tuple<std::string, double, double, double>;

TimingTuple time_conv2d(const std::array<int64_t, 4>& input, int64_t out_channels, const Pair& kernel,
                        const Pair& stride, const std::array<int64_t, 4>& padding, const Pair& dilation,
                        int64_t groups, int threads, double seconds) {
  const auto [n, channels, h, w] = input;
  const py::gil_scoped_release release;
  const ptqx::engine::Conv2dTiming timing = ptqx::ops::time_conv2d({.in_channels = channels,
                                                                    .out_channels = out_channels,
                                                                    .kernel_h = kernel[0],
                                                                    .kernel_w = kernel[1],
                                                                    .stride_h = stride[0],
                                                                    .stride_w = stride[1],
                                                                    .pad_top = padding[0],
                                                                    .pad_left = padding[1],
                                                                    .pad_bottom = padding[2],
                                                                    .pad_right = padding[3],
                                                                    .dilation_h = dilation[0],
                                                                    .dilation_w = dilation[1],
                                                                    .groups = groups},
                                                                   n, h, w, threads, seconds);
  return {timing.kernel, timing.seconds, timing.nominal_macs, timing.useful_macs};
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
  m.def("time_conv2d", &time_conv2d, py::arg("input"), py::arg("out_channels"), py::arg("kernel"),
        py::arg("stride"), py::arg("padding"), py::arg("dilation"), py::arg("groups"), py::arg("threads"),
        py::arg("seconds"),
        "(kernel, seconds, nominal MACs, useful MACs) of one layer alone on random (N, C, H, W) codes; "
        "padding is top, left, bottom, right, and taps on it are nominal only.");
}
