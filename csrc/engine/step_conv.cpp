// conv2d, linear, their dynamic forms, those of signs and those without floats.

#include <cmath>
#include <memory>

#include "engine/conv2d_impl.h"
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

std::shared_ptr<Layer> make_layer(const PlanBuilder& plan, const Node& node, Conv2d& conv) {
  if (const Value* features = plan.features_from(node)) conv.weight = permute_columns(conv.weight, *features);
  const Value& x = plan.input(node);
  const Value& y = node.output;
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

}  // namespace

void add_steps(PlanBuilder& plan, const Node& node, Conv2d& conv) try {
  const std::shared_ptr<const Layer> layer = [&] {
    std::shared_ptr<Layer> made = make_layer(plan, node, conv);
    if (node.inputs.size() > 1) {
      made->call.tail.residual_multiplier = conv.residual_multiplier;
      made->call.tail.residual_zero_point = plan.input(node, 1).zero_point;
    }
    return made;
  }();
  plan.require_slack(layer->weight.input_slack());

  const bool dynamic = conv.dynamic;
  const DynamicBuffers dynamic_input = dynamic ? add_dynamic_quantize(plan, node) : DynamicBuffers{};
  Step step{.name = node.name, .op = node.op, .reads = {}, .writes = {}, .work = {}};
  const int x = dynamic       ? dynamic_input.codes
                : conv.binary ? add_pack_signs(plan, node)
                              : plan.input_buffer(node);
  const int residual = node.inputs.size() > 1 ? plan.input_buffer(node, 1) : -1;
  const int y = plan.output_buffer(node);
  step.reads = {x};
  if (residual >= 0) step.reads.push_back(residual);
  if (dynamic) step.reads.insert(step.reads.end(), {dynamic_input.scale, dynamic_input.zero_point});
  step.writes = {y};
  if (residual != x) step.overwrites = residual;
  step.kernel = layer->weight.kernel_name();
  step.suits_tiles = layer->weight.suits_tiles();
  step.macs = nominal_macs(conv.shape, plan.input(node).h, plan.input(node).w);
  step.useful_macs = useful_macs(conv.shape, plan.input(node).h, plan.input(node).w);
  step.bytes = layer->bytes();

  const auto data_of = [=](const Run& run) {
    return Conv2dData{
        .input = run.at<const uint8_t>(x),
        .residual = residual >= 0 ? run.at<const uint8_t>(residual) : nullptr,
        .input_zero_points = dynamic ? run.at<const int32_t>(dynamic_input.zero_point) : nullptr,
        .sample_scale = dynamic ? run.at<const float>(dynamic_input.scale) : nullptr,
        .output = run.at<uint8_t>(y)};
  };
  const auto call_on = [=](int64_t samples) {
    Conv2dCall call = layer->call;
    call.n = samples;
    return call;
  };
  const auto work = [=](int64_t samples, int threads, const std::string& strategy) {
    const auto conv_plan =
        std::make_shared<const Conv2dPlan>(layer->weight, call_on(samples), threads, strategy);
    return Work{
        .items = conv_plan->items(),
        .run = [=](const Run& run, int64_t begin, int64_t end) { conv_plan->run(data_of(run), begin, end); },
        .scratch_bytes = conv_plan->scratch_bytes(),
        .strategy = conv_plan->strategy(),
        .kernel = conv_plan->kernel_name()};
  };
  step.work = [=](int64_t samples, int threads) { return work(samples, threads, {}); };
  step.strategies = {
      .layer = layer_key(conv, *layer, plan.input(node)),
      .names = [=](int64_t samples,
                   int threads) { return conv2d_strategies(layer->weight, call_on(samples), threads); },
      .work = work};
  plan.add(std::move(step));
} catch (const std::invalid_argument& error) {
  throw Error("node " + quote(node.name) + " (" + node.op + "): " + error.what());
}

}  // namespace ptqx::engine
