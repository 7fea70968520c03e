// 3x3 convolution of 256 channels to 256, one sample, one thread: signs against 8-bit codes, under every
// ceiling of instruction sets, so that the rows for lesser CPUs are compared, too.

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "conv2d_layer.h"
#include "engine/conv2d.h"
#include "kernels/dispatch.h"

namespace ptqx::benchmarks {
namespace {

using engine::Conv2dCall;
using engine::Conv2dData;
using engine::Conv2dPlan;
using engine::Conv2dShape;
using engine::PackedConv2d;

void run_binary(benchmark::State& state, int64_t size, bool binary) {
  constexpr int64_t kChannels = 256;
  const int64_t bytes = binary ? kChannels / 8 : kChannels;
  const Conv2dShape shape{.in_channels = bytes,
                          .out_channels = kChannels,
                          .kernel_h = 3,
                          .kernel_w = 3,
                          .pad_top = 1,
                          .pad_left = 1,
                          .pad_bottom = 1,
                          .pad_right = 1};
  const std::vector<uint8_t> weight = random_bytes(kChannels * bytes * 9);
  const PackedConv2d packed = binary ? PackedConv2d::binary(shape, weight.data(), kChannels)
                                     : PackedConv2d(shape, reinterpret_cast<const int8_t*>(weight.data()));
  const std::vector<uint8_t> input = random_bytes(size * size * bytes);
  std::vector<uint8_t> output(static_cast<size_t>(size * size * kChannels));
  const std::vector<float> multiplier(static_cast<size_t>(kChannels), 0.001F);
  Conv2dCall call{.n = 1, .h = size, .w = size, .tail = {}};
  call.tail.multiplier = multiplier.data();
  const Conv2dData data{.input = input.data(), .output = output.data()};
  const Conv2dPlan plan(packed, call, 1);
  for (auto _ : state) {
    plan.run(data, 0, plan.items());
    benchmark::ClobberMemory();
  }
  state.SetLabel(packed.kernel_name());
}

const bool kRegistered = [] {
  for (const auto isa : {kernels::Isa::kAvx2, kernels::Isa::kAvx512Vnni, kernels::Isa::kAvx512Vpopcntdq}) {
    if (!kernels::isa_allowed(isa, kernels::isa_ceiling())) continue;
    for (const int64_t size : {8, 14, 28}) {
      for (const bool binary : {false, true}) {
        const std::string name = std::string("Binary/") + kernels::isa_name(isa) +
                                 (binary ? "/signs" : "/int8") + "/size:" + std::to_string(size);
        benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
          const kernels::Isa ceiling = kernels::isa_ceiling();
          kernels::set_isa_ceiling(isa);
          run_binary(state, size, binary);
          kernels::set_isa_ceiling(ceiling);
        })->Unit(benchmark::kMicrosecond);
      }
    }
  }
  return true;
}();

}  // namespace
}  // namespace ptqx::benchmarks
