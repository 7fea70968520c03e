// Convolution and linear layers of real networks, on one thread. The label is the kernel that ran.

#include "conv2d_layer.h"
#include "engine/conv2d.h"

namespace ptqx::benchmarks {
namespace {

/// Weights are codes of `bits` bits.
void run_layer(benchmark::State& state, const Layer& layer, int64_t batch, int bits) {
  const int64_t weights = layer.out_channels * layer.group_channels() * layer.kernel * layer.kernel;
  std::vector<int8_t> weight;
  for (const uint8_t byte : random_bytes(weights)) {
    weight.push_back(static_cast<int8_t>(static_cast<int8_t>(byte) >> (8 - bits)));
  }
  const engine::PackedConv2d packed(layer.shape(), weight.data());
  const std::vector<uint8_t> input = random_bytes(batch * layer.size * layer.size * layer.in_channels +
                                                  static_cast<int64_t>(packed.input_slack()));
  const int64_t pixels = batch * layer.output_size() * layer.output_size();
  std::vector<uint8_t> output(static_cast<size_t>(pixels * layer.out_channels));
  const std::vector<int32_t> bias(static_cast<size_t>(layer.out_channels), 1000);
  const std::vector<float> multiplier(static_cast<size_t>(layer.out_channels), 0.001F);
  engine::Conv2dCall call{.n = batch, .h = layer.size, .w = layer.size, .tail = {}};
  call.tail.bias = bias.data();
  call.tail.multiplier = multiplier.data();
  call.tail.activation = {.kind = kernels::Activation::kClip, .low = 0.0F, .high = 1e30F};
  const engine::Conv2dData data{.input = input.data(), .output = output.data()};
  const engine::Conv2dPlan plan(packed, call, 1);
  for (auto _ : state) {
    plan.run(data, 0, plan.items());
    benchmark::ClobberMemory();
  }
  set_rates(state, layer, batch);
  state.SetLabel(plan.kernel_name());
}

template <int Bits>
void run_bits(benchmark::State& state, const Layer& layer, int64_t batch) {
  run_layer(state, layer, batch, Bits);
}

const bool kRegistered = register_layers("Conv2d", run_bits<8>) && register_layers("Conv2dInt4", run_bits<4>);

}  // namespace
}  // namespace ptqx::benchmarks
