// conv2d, linear, their dynamic forms, those of signs and those without floats.

#include <algorithm>
#include <cmath>
#include <memory>

#include "engine/conv2d_impl.h"
#include "engine/conv_phases.h"
#include "engine/engine.h"
#include "engine/plan.h"
#include "engine/text.h"
#include "kernels/arith.h"
#include "kernels/pack.h"
#include "kernels/quantize.h"
#include "kernels/reduce.h"

namespace ptqx::engine {
namespace {

/// Packed weights and the arrays that the tail points to. Shared by a step's functions, never moved.
struct Layer {
  PackedConv2d weight;
  std::vector<float> multiplier, bias_f32, slopes;
  std::vector<int32_t> bias;
  std::vector<int32_t> fixed_multiplier = {}, shift = {};
  Conv2dCall call = {};  // all but the addresses and the batch of a run

  size_t bytes() const {
    return weight.bytes() + sizeof(float) * (multiplier.size() + bias_f32.size() + slopes.size()) +
           sizeof(int32_t) * (bias.size() + fixed_multiplier.size() + shift.size());
  }
};

template <class T>
const T* data_or_null(const std::vector<T>& values) {
  return values.empty() ? nullptr : values.data();
}

/// Columns of a linear layer from NCHW order to the memory order of the value that was flattened.
std::vector<int8_t> permute_columns(const std::vector<int8_t>& weight, const Value& features) {
  std::vector<int8_t> permuted(weight.size());
  const auto c = static_cast<size_t>(features.c);
  const auto pixels = static_cast<size_t>(features.pixels());
  for (size_t row = 0; row < weight.size(); row += c * pixels) {
    for (size_t pixel = 0; pixel < pixels; ++pixel) {
      for (size_t channel = 0; channel < c; ++channel) {
        permuted[row + pixel * c + channel] = weight[row + channel * pixels + pixel];
      }
    }
  }
  return permuted;
}

/// Bytes of so many signs, in whole dwords.
int64_t sign_bytes(int64_t signs) { return (signs + 31) / 32 * 4; }

/// OIHW weights of -1 and 1, as bits along I.
PackedConv2d pack_binary(const Conv2d& conv) {
  Conv2dShape shape = conv.shape;
  const int64_t signs = shape.in_channels;
  const int64_t taps = shape.kernel_h * shape.kernel_w;
  shape.in_channels = sign_bytes(signs);
  std::vector<uint8_t> bits(static_cast<size_t>(shape.out_channels * shape.in_channels * taps));
  for (size_t i = 0; i < conv.weight.size(); ++i) {
    if (conv.weight[i] < 0) continue;
    const auto index = static_cast<int64_t>(i);
    const int64_t tap = index % taps, sign = index / taps % signs, oc = index / taps / signs;
    uint8_t& byte = bits[static_cast<size_t>((oc * shape.in_channels + sign / 8) * taps + tap)];
    byte = static_cast<uint8_t>(byte | 1U << sign % 8);
  }
  return PackedConv2d::binary(shape, bits.data(), signs);
}

PackedConv2d pack_layer(const Conv2d& conv) {
  if (conv.binary) return pack_binary(conv);
  return PackedConv2d(conv.shape, conv.weight.data(), data_or_null(conv.weight_zero_point), conv.group_size);
}

void requantize_without_floats(FixedPoint fixed_point, Layer& layer) {
  layer.fixed_multiplier = std::move(fixed_point.multiplier);
  layer.shift = std::move(fixed_point.shift);
  kernels::Tail& tail = layer.call.tail;
  tail.output = kernels::Output::kU8FixedPoint;
  tail.fixed_multiplier = layer.fixed_multiplier.data();
  tail.shift = layer.shift.data();
  tail.qmin = fixed_point.low;
  tail.qmax = fixed_point.high;
}

/// From `x` to `y`. The arrays of `conv` move over.
std::shared_ptr<Layer> make_layer(const Value& x, const Value& y, Conv2d& conv) {
  auto layer = std::make_shared<Layer>(Layer{.weight = pack_layer(conv),
                                             .multiplier = std::move(conv.multiplier),
                                             .bias_f32 = std::move(conv.bias_f32),
                                             .slopes = std::move(conv.activation.slopes),
                                             .bias = std::move(conv.bias)});
  conv.weight = {};  // the canonical weights are not needed again
  if (!conv.dynamic && x.zero_point == 0) layer->weight.forget_zero_points();
  Conv2dCall& call = layer->call;
  call.h = x.h;
  call.w = x.w;
  call.input_zero_point = conv.binary ? 0 : x.zero_point;
  call.zero_point_per_sample = call.scale_per_sample = conv.dynamic;
  call.tail.output = y.is_float ? kernels::Output::kF32 : kernels::Output::kU8;
  call.tail.bias = data_or_null(layer->bias);
  call.tail.multiplier = layer->multiplier.data();
  call.tail.bias_f32 = data_or_null(layer->bias_f32);
  call.tail.activation = conv.activation.args;
  call.tail.activation.slopes = data_or_null(layer->slopes);
  call.tail.output_zero_point = y.zero_point;
  call.tail.qmin = y.qmin;
  call.tail.qmax = y.qmax;
  if (conv.fixed_point) requantize_without_floats(std::move(*conv.fixed_point), *layer);
  return layer;
}

void take_residual(const PlanBuilder& plan, const Node& node, const Conv2d& conv, Layer& layer) {
  if (node.inputs.size() < 2) return;
  layer.call.tail.residual_multiplier = conv.residual_multiplier;
  layer.call.tail.residual_zero_point = plan.input(node, 1).zero_point;
}

/// All that the speed of a layer depends on but samples, workers and machine.
std::string layer_key(const Conv2d& conv, const Layer& layer, const Value& x) {
  const Conv2dShape& s = conv.shape;
  const kernels::Tail& tail = layer.call.tail;
  return join({x.c, x.h, x.w}, "x") + " to " + std::to_string(s.out_channels) + ", kernel " +
         join({s.kernel_h, s.kernel_w}, "x") + ", stride " + join({s.stride_h, s.stride_w}, "x") +
         ", padding " + join({s.pad_top, s.pad_left, s.pad_bottom, s.pad_right}, " ") + ", dilation " +
         join({s.dilation_h, s.dilation_w}, "x") + ", groups " + std::to_string(s.groups) +
         (conv.group_size > 0 ? ", scales of " + std::to_string(conv.group_size) + " channels" : "") +
         (conv.weight_zero_point.empty() ? "" : ", weight zero points") + (conv.dynamic ? ", dynamic" : "") +
         (tail.residual_multiplier != 0.0F ? ", residual" : "") +
         (tail.output == kernels::Output::kF32 ? ", float32" : "") +
         (tail.output == kernels::Output::kU8FixedPoint ? ", without floats" : "") + ", " +
         layer.weight.kernel_name() + (layer.weight.suits_tiles() ? " or tiles" : "");
}

/// Where the codes of a dynamic layer's input and their qparams go.
struct DynamicBuffers {
  int codes, scale, zero_point;
};

/// Per sample: range, scale and zero_point, then codes (ONNX DynamicQuantizeLinear).
DynamicBuffers add_dynamic_quantize(PlanBuilder& plan, const Node& node) {
  const int from = plan.input_buffer(node);
  const int64_t size = plan.input(node).size();
  const DynamicBuffers to = {plan.new_buffer(static_cast<size_t>(size)), plan.new_buffer(sizeof(float)),
                             plan.new_buffer(sizeof(int32_t))};
  const auto quantize_sample = [=, name = node.name](const Run& run, int64_t sample, int64_t, int64_t) {
    const float* x = run.at<const float>(from) + sample * size;
    const kernels::MinMax range = kernels::min_max(x, size);
    require_finite(name, range.nonfinite);
    const kernels::QParams qparams = kernels::dynamic_qparams(range.min, range.max, 0, 255);
    run.at<float>(to.scale)[sample] = qparams.scale;
    run.at<int32_t>(to.zero_point)[sample] = qparams.zero_point;
    kernels::quantize_u8(x, {1, 1, size}, &qparams.scale, &qparams.zero_point, 0, 255,
                         run.at<uint8_t>(to.codes) + sample * size);
  };
  plan.add({.name = node.name,
            .op = "dynamic_quantize",
            .reads = {from},
            .writes = {to.codes, to.scale, to.zero_point},
            .work = [=](int64_t samples, int) { return row_work(samples, 1, 5 * size, quantize_sample); }});
  return to;
}

/// Codes of signs become bits, eight a byte along the channels; the buffer that they go to.
int add_pack_signs(PlanBuilder& plan, const Node& node) {
  const int from = plan.input_buffer(node);
  const int64_t pixels = plan.input(node).pixels();
  const int64_t signs = plan.input(node).c;
  const int64_t bytes = sign_bytes(signs);
  const int to = plan.new_buffer(static_cast<size_t>(pixels * bytes));
  const auto pack = [=](const Run& run, int64_t sample, int64_t begin, int64_t end) {
    for (int64_t pixel = sample * pixels + begin; pixel < sample * pixels + end; ++pixel) {
      kernels::pack_sign_codes(run.at<const uint8_t>(from) + pixel * signs, signs,
                               run.at<uint8_t>(to) + pixel * bytes);
    }
  };
  plan.add({.name = node.name,
            .op = "pack_signs",
            .reads = {from},
            .writes = {to},
            .work = [=](int64_t samples, int) { return row_work(samples, pixels, signs + bytes, pack); }});
  return to;
}

/// The buffers of a layer; -1 where it has none.
struct LayerBuffers {
  int x, residual, y;
  DynamicBuffers dynamic;

  Conv2dData data(const Run& run) const {
    const bool is_dynamic = dynamic.codes >= 0;
    return {.input = run.at<const uint8_t>(x),
            .residual = residual >= 0 ? run.at<const uint8_t>(residual) : nullptr,
            .input_zero_points = is_dynamic ? run.at<const int32_t>(dynamic.zero_point) : nullptr,
            .sample_scale = is_dynamic ? run.at<const float>(dynamic.scale) : nullptr,
            .output = run.at<uint8_t>(y)};
  }
};

/// `node` reads the layer's input.
LayerBuffers add_buffers(PlanBuilder& plan, const Node& node, const Conv2d& conv) {
  LayerBuffers buffers{-1, -1, -1, {-1, -1, -1}};
  if (conv.dynamic) {
    buffers.dynamic = add_dynamic_quantize(plan, node);
    buffers.x = buffers.dynamic.codes;
  } else {
    buffers.x = conv.binary ? add_pack_signs(plan, node) : plan.input_buffer(node);
  }
  if (node.inputs.size() > 1) buffers.residual = plan.input_buffer(node, 1);
  return buffers;
}

Conv2dCall call_on(const Layer& layer, int64_t samples) {
  Conv2dCall call = layer.call;
  call.n = samples;
  return call;
}

Work layer_work(const std::shared_ptr<const Layer>& layer, const LayerBuffers& buffers, int64_t samples,
                int threads, const std::string& strategy) {
  const auto plan =
      std::make_shared<const Conv2dPlan>(layer->weight, call_on(*layer, samples), threads, strategy);
  return {
      .items = plan->items(),
      .run = [=](const Run& run, int64_t begin, int64_t end) { plan->run(buffers.data(run), begin, end); },
      .scratch_bytes = plan->scratch_bytes(),
      .strategy = plan->strategy(),
      .kernel = plan->kernel_name()};
}

/// The items of several works, one work after the other.
Work joined(std::vector<Work> works) {
  Work all{.items = 0, .run = {}, .strategy = works.front().strategy, .kernel = works.front().kernel};
  for (const Work& work : works) {
    all.items += work.items;
    all.scratch_bytes = std::max(all.scratch_bytes, work.scratch_bytes);
  }
  all.run = [works = std::move(works)](const Run& run, int64_t begin, int64_t end) {
    int64_t first = 0;
    for (const Work& work : works) {
      const int64_t from = std::clamp(begin - first, int64_t{0}, work.items);
      const int64_t to = std::clamp(end - first, int64_t{0}, work.items);
      if (from < to) work.run(run, from, to);
      first += work.items;
    }
  };
  return all;
}

/// Its phases, if the convolution reads an image with zeros between its pixels and has some.
std::vector<ConvPhase> phases_of(const PlanBuilder& plan, const Node& node, const Conv2d& conv) {
  const Node& source = plan.source(node);
  const auto* upsample = std::get_if<UpsampleZeros2d>(&source.operation);
  if (upsample == nullptr || conv.binary) return {};
  const Value& x = plan.input(source);
  return conv_phases(conv.shape, x.h, x.w, upsample->factor_h, upsample->factor_w)
      .value_or(std::vector<ConvPhase>{});
}

using Layers = std::vector<std::shared_ptr<const Layer>>;

/// A step without its work.
Step layer_step(const Node& node, const LayerBuffers& buffers, const Layers& layers) {
  Step step{.name = node.name, .op = node.op, .reads = {buffers.x}, .writes = {buffers.y}, .work = {}};
  if (buffers.residual >= 0) step.reads.push_back(buffers.residual);
  if (buffers.dynamic.codes >= 0) {
    step.reads.insert(step.reads.end(), {buffers.dynamic.scale, buffers.dynamic.zero_point});
  }
  if (buffers.residual != buffers.x) step.overwrites = buffers.residual;
  step.kernel = layers.front()->weight.kernel_name();
  step.suits_tiles = layers.front()->weight.suits_tiles();
  for (const auto& layer : layers) {
    const Conv2dShape& shape = layer->weight.shape();
    step.macs += nominal_macs(shape, layer->call.h, layer->call.w);
    step.useful_macs += useful_macs(shape, layer->call.h, layer->call.w);
    step.bytes += layer->bytes();
  }
  return step;
}

/// `reader` is `node`, but reads the image without zeros between its pixels.
void add_phases(PlanBuilder& plan, const Node& node, const Node& reader, const Conv2d& conv,
                const std::vector<ConvPhase>& phases) {
  Layers layers;
  for (const ConvPhase& phase : phases) {
    Conv2d part = conv;
    part.shape = phase.shape;
    part.weight = phase_weight(conv.shape, conv.weight, phase);
    std::shared_ptr<Layer> layer = make_layer(plan.input(reader), node.output, part);
    layer->call.grid = phase.grid;
    take_residual(plan, reader, conv, *layer);
    plan.require_slack(layer->weight.input_slack());
    layers.push_back(std::move(layer));
  }
  LayerBuffers buffers = add_buffers(plan, reader, conv);
  buffers.y = plan.output_buffer(node);
  Step step = layer_step(node, buffers, layers);
  step.work = [=](int64_t samples, int threads) {
    std::vector<Work> works;
    for (const auto& layer : layers) works.push_back(layer_work(layer, buffers, samples, threads, {}));
    return joined(std::move(works));
  };
  plan.add(std::move(step));
}

void add_whole(PlanBuilder& plan, const Node& node, Conv2d& conv) {
  if (const Value* features = plan.features_from(node)) conv.weight = permute_columns(conv.weight, *features);
  const std::shared_ptr<const Layer> layer = [&] {
    std::shared_ptr<Layer> made = make_layer(plan.input(node), node.output, conv);
    take_residual(plan, node, conv, *made);
    return made;
  }();
  plan.require_slack(layer->weight.input_slack());
  LayerBuffers buffers = add_buffers(plan, node, conv);
  buffers.y = plan.output_buffer(node);
  Step step = layer_step(node, buffers, {layer});
  step.work = [=](int64_t samples, int threads) { return layer_work(layer, buffers, samples, threads, {}); };
  step.strategies = {.layer = layer_key(conv, *layer, plan.input(node)),
                     .names =
                         [=](int64_t samples, int threads) {
                           return conv2d_strategies(layer->weight, call_on(*layer, samples), threads);
                         },
                     .work =
                         [=](int64_t samples, int threads, const std::string& strategy) {
                           return layer_work(layer, buffers, samples, threads, strategy);
                         }};
  plan.add(std::move(step));
}

}  // namespace

bool only_read_by_phases(const PlanBuilder& plan, const Node& node) {
  const std::vector<const Node*> consumers = plan.only_consumers(node);
  return !consumers.empty() && std::all_of(consumers.begin(), consumers.end(), [&](const Node* consumer) {
    const auto* conv = std::get_if<Conv2d>(&consumer->operation);
    const bool is_residual = consumer->inputs.size() > 1 && &plan.source(*consumer, 1) == &node;
    return conv != nullptr && !is_residual && !phases_of(plan, *consumer, *conv).empty();
  });
}

void add_steps(PlanBuilder& plan, const Node& node, Conv2d& conv) try {
  const std::vector<ConvPhase> phases = phases_of(plan, node, conv);
  if (phases.empty()) {
    add_whole(plan, node, conv);
  } else {
    Node reader{.name = node.name, .op = node.op, .inputs = node.inputs};
    reader.inputs[0] = plan.source(node).inputs[0];
    add_phases(plan, node, reader, conv, phases);
    conv.weight = {};
  }
} catch (const std::invalid_argument& error) {
  throw Error("node " + quote(node.name) + " (" + node.op + "): " + error.what());
}

}  // namespace ptqx::engine
