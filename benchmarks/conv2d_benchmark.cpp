// Convolution and linear layers of real networks, on one thread. Counters, in multiply-accumulates per
// second of CPU time: `nominal` counts taps on padding, as published figures do; `useful` does not.
// The label is the kernel that ran. VnniCeiling is what the CPU can do at most, from registers alone.

#include <benchmark/benchmark.h>

#include <random>
#include <string>
#include <vector>

#include "engine/conv2d.h"
#include "kernels/dispatch.h"

namespace ptqx::engine {
namespace {

struct Layer {
  const char* network;
  const char* name;
  int64_t in_channels, out_channels, kernel, size, stride = 1, groups = 1;
};

constexpr Layer kLayers[] = {
    {"vgg11", "conv1", 3, 64, 3, 32},
    {"vgg11", "conv2", 64, 128, 3, 16},
    {"vgg11", "conv3", 128, 256, 3, 8},
    {"vgg11", "conv4", 256, 256, 3, 8},
    {"vgg11", "conv5", 256, 512, 3, 4},
    {"vgg11", "conv6", 512, 512, 3, 4},
    {"vgg11", "conv7", 512, 512, 3, 2},
    {"vgg11", "linear1", 512, 512, 1, 1},
    {"vgg11", "linear3", 512, 100, 1, 1},
    {"resnet20", "conv1", 3, 16, 3, 32},
    {"resnet20", "layer1", 16, 16, 3, 32},
    {"resnet20", "layer2_first", 16, 32, 3, 32, 2},
    {"resnet20", "layer2", 32, 32, 3, 16},
    {"resnet20", "layer3", 64, 64, 3, 8},
    {"resnet50", "conv1", 3, 64, 7, 224, 2},
    {"resnet50", "layer1_reduce", 256, 64, 1, 56},
    {"resnet50", "layer1_conv", 64, 64, 3, 56},
    {"resnet50", "layer1_expand", 64, 256, 1, 56},
    {"resnet50", "layer2_down", 256, 512, 1, 56, 2},
    {"resnet50", "layer3_conv", 256, 256, 3, 14},
    {"resnet50", "layer3_expand", 256, 1024, 1, 14},
    {"resnet50", "layer4_conv", 512, 512, 3, 7},
    {"resnet50", "layer4_reduce", 2048, 512, 1, 7},
    {"mobilenet_v2", "conv1", 3, 32, 3, 224, 2},
    {"mobilenet_v2", "depthwise32", 32, 32, 3, 112, 1, 32},
    {"mobilenet_v2", "project16", 32, 16, 1, 112},
    {"mobilenet_v2", "expand96", 16, 96, 1, 112},
    {"mobilenet_v2", "depthwise96_down", 96, 96, 3, 112, 2, 96},
    {"mobilenet_v2", "project24", 144, 24, 1, 56},
    {"mobilenet_v2", "depthwise144", 144, 144, 3, 56, 1, 144},
    {"mobilenet_v2", "expand192", 32, 192, 1, 28},
    {"mobilenet_v2", "depthwise384", 384, 384, 3, 14, 1, 384},
    {"mobilenet_v2", "project96", 576, 96, 1, 14},
    {"mobilenet_v2", "depthwise960", 960, 960, 3, 7, 1, 960},
    {"mobilenet_v2", "project320", 960, 320, 1, 7},
    {"mobilenet_v2", "head", 320, 1280, 1, 7},
};

/// Pairs of output and tap that meet on the input, along one axis.
int64_t axis_taps(int64_t outputs, int64_t inputs, const Layer& layer) {
  int64_t count = 0;
  for (int64_t o = 0; o < outputs; ++o) {
    for (int64_t k = 0; k < layer.kernel; ++k) {
      const int64_t position = o * layer.stride - layer.kernel / 2 + k;
      if (position >= 0 && position < inputs) ++count;
    }
  }
  return count;
}

std::vector<uint8_t> random_bytes(size_t size) {
  std::mt19937 random(1);
  std::vector<uint8_t> bytes(size);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

/// Weights are codes of `bits` bits.
void run_layer(benchmark::State& state, const Layer& layer, int64_t batch, int bits) {
  const int64_t pad = layer.kernel / 2;
  const Conv2dShape shape{.in_channels = layer.in_channels,
                          .out_channels = layer.out_channels,
                          .kernel_h = layer.kernel,
                          .kernel_w = layer.kernel,
                          .stride_h = layer.stride,
                          .stride_w = layer.stride,
                          .pad_top = pad,
                          .pad_left = pad,
                          .pad_bottom = pad,
                          .pad_right = pad,
                          .groups = layer.groups};
  const int64_t in_group = layer.in_channels / layer.groups;
  const int64_t weights = layer.out_channels * in_group * layer.kernel * layer.kernel;
  std::vector<int8_t> weight;
  for (const uint8_t byte : random_bytes(static_cast<size_t>(weights))) {
    weight.push_back(static_cast<int8_t>(static_cast<int8_t>(byte) >> (8 - bits)));
  }
  const PackedConv2d packed(shape, weight.data());
  const int64_t out_size = shape.output_h(layer.size);
  const std::vector<uint8_t> input = random_bytes(
      static_cast<size_t>(batch * layer.size * layer.size * layer.in_channels) + packed.input_slack());
  std::vector<uint8_t> output(static_cast<size_t>(batch * out_size * out_size * layer.out_channels));
  const std::vector<int32_t> bias(static_cast<size_t>(layer.out_channels), 1000);
  const std::vector<float> multiplier(static_cast<size_t>(layer.out_channels), 0.001F);
  Conv2dCall call{.n = batch, .h = layer.size, .w = layer.size, .tail = {}};
  call.tail.bias = bias.data();
  call.tail.multiplier = multiplier.data();
  call.tail.activation = {.kind = kernels::Activation::kClip, .low = 0.0F, .high = 1e30F};
  const Conv2dData data{.input = input.data(), .output = output.data()};
  const Conv2dPlan plan(packed, call, 1);
  for (auto _ : state) {
    plan.run(data, 0, plan.items());
    benchmark::ClobberMemory();
  }
  const int64_t taps = axis_taps(out_size, layer.size, layer);
  const auto per_tap = static_cast<double>(batch * layer.out_channels * in_group);
  const auto rate = [&](int64_t pairs) {
    return benchmark::Counter(per_tap * static_cast<double>(pairs),
                              benchmark::Counter::kIsIterationInvariantRate);
  };
  state.counters["useful"] = rate(taps * taps);
  state.counters["nominal"] = rate(out_size * out_size * layer.kernel * layer.kernel);
  state.SetLabel(packed.kernel_name());
}

const bool registered = [] {
  for (const int64_t batch : {1, 8, 64}) {
    for (const Layer& layer : kLayers) {
      if (batch == 64 && layer.size > 32) continue;
      for (const int bits : {8, 4}) {
        if (bits == 4 && std::string(layer.network) != "vgg11") continue;
        const std::string name = std::string("Conv2d/") + layer.network + "/" + layer.name +
                                 (bits == 4 ? "_int4" : "") + "/batch:" + std::to_string(batch);
        benchmark::RegisterBenchmark(name.c_str(), [&layer, batch, bits](benchmark::State& state) {
          run_layer(state, layer, batch, bits);
        })->Unit(benchmark::kMicrosecond);
      }
    }
  }
  return true;
}();

}  // namespace
}  // namespace ptqx::engine
