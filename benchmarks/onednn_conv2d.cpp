// oneDNN's int8 convolution on the same layers, on one thread: u8 images, s8 weights in the layout that it
// asks for, int32 or float32 bias, a scale per output channel, ReLU, u8 out. The label is its implementation.

#include <omp.h>

#include <dnnl.hpp>
#include <unordered_map>

#include "conv2d_layer.h"

namespace ptqx::benchmarks {
namespace {

using dnnl::memory;
constexpr float kScale = 0.001F;

memory::desc any(const memory::dims& dims, memory::data_type type) {
  return {dims, type, memory::format_tag::any};
}

memory::dims weight_dims(const Layer& layer) {
  memory::dims dims = {layer.out_channels / layer.groups, layer.group_channels(), layer.kernel, layer.kernel};
  if (layer.groups > 1) dims.insert(dims.begin(), layer.groups);
  return dims;
}

/// ReLU after scaling by output channel.
dnnl::primitive_attr attributes(const Layer& layer) {
  dnnl::primitive_attr attr;
  dnnl::post_ops ops;
#if DNNL_VERSION_MAJOR >= 3
  attr.set_scales_mask(DNNL_ARG_WEIGHTS, layer.groups > 1 ? 3 : 1);
  ops.append_eltwise(dnnl::algorithm::eltwise_relu, 0.0F, 0.0F);
#else
  attr.set_output_scales(2, std::vector<float>(static_cast<size_t>(layer.out_channels), kScale));
  ops.append_eltwise(1.0F, dnnl::algorithm::eltwise_relu, 0.0F, 0.0F);
#endif
  attr.set_post_ops(ops);
  return attr;
}

dnnl::convolution_forward::primitive_desc describe(const dnnl::engine& engine, const Layer& layer,
                                                   int64_t batch) {
  const auto kind = dnnl::prop_kind::forward_inference;
  const auto algorithm = dnnl::algorithm::convolution_direct;
  const memory::dims strides = {layer.stride, layer.stride};
  const memory::dims padding = {layer.pad(), layer.pad()};
  const memory::desc src = any({batch, layer.in_channels, layer.size, layer.size}, memory::data_type::u8);
  const memory::desc weights = any(weight_dims(layer), memory::data_type::s8);
  const memory::desc bias = {{layer.out_channels}, memory::data_type::f32, memory::format_tag::x};
  const memory::desc dst =
      any({batch, layer.out_channels, layer.output_size(), layer.output_size()}, memory::data_type::u8);
#if DNNL_VERSION_MAJOR >= 3
  return {engine, kind, algorithm, src, weights, bias, dst, strides, padding, padding, attributes(layer)};
#else
  return {{kind, algorithm, src, weights, bias, dst, strides, padding, padding}, attributes(layer), engine};
#endif
}

memory filled(const memory::desc& desc, const dnnl::engine& engine) {
  memory result(desc, engine);
  const std::vector<uint8_t> bytes = random_bytes(static_cast<int64_t>(desc.get_size()));
  std::copy(bytes.begin(), bytes.end(), static_cast<uint8_t*>(result.get_data_handle()));
  return result;
}

memory constant(int64_t size, float value, const dnnl::engine& engine) {
  memory result({{size}, memory::data_type::f32, memory::format_tag::x}, engine);
  std::fill_n(static_cast<float*>(result.get_data_handle()), size, value);
  return result;
}

void run_layer(benchmark::State& state, const Layer& layer, int64_t batch) try {
  omp_set_num_threads(1);
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const auto described = describe(engine, layer, batch);
  const dnnl::convolution_forward convolution(described);
  std::unordered_map<int, memory> arguments = {
      {DNNL_ARG_SRC, filled(described.src_desc(), engine)},
      {DNNL_ARG_WEIGHTS, filled(described.weights_desc(), engine)},
      {DNNL_ARG_BIAS, constant(layer.out_channels, 1.0F, engine)},
      {DNNL_ARG_DST, memory(described.dst_desc(), engine)},
#if DNNL_VERSION_MAJOR >= 3
      {DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS, constant(layer.out_channels, kScale, engine)},
#endif
  };
  for (auto _ : state) {
    convolution.execute(stream, arguments);
    stream.wait();
  }
  set_rates(state, layer, batch);
  state.SetLabel(described.impl_info_str());
} catch (const dnnl::error& error) {
  state.SkipWithError(error.what());
}

const bool kRegistered = register_layers("OneDnn", run_layer);

}  // namespace
}  // namespace ptqx::benchmarks
