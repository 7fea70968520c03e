// conv2d, linear and their dynamic forms.

#include <cmath>
#include <memory>

#include "engine/conv2d_impl.h"
#include "engine/engine.h"
#include "engine/plan.h"
#include "engine/text.h"
#include "kernels/arith.h"
#include "kernels/quantize.h"
#include "kernels/reduce.h"

namespace ptqx::engine {
namespace {

/// Packed weights and the arrays that the tail points to. Shared by a step's functions, never moved.
struct Layer {
  PackedConv2d weight;
  std::vector<float> multiplier, bias_f32, slopes;
  std::vector<int32_t> bias;
  Conv2dCall call = {};  // all but the addresses and the batch of a run

  size_t bytes() const {
    return weight.bytes() +
           sizeof(float) * (multiplier.size() + bias_f32.size() + slopes.size() + bias.size());
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

std::shared_ptr<Layer> make_layer(const PlanBuilder& plan, const Node& node, Conv2d& conv) {
  if (const Value* features = plan.features_from(node)) conv.weight = permute_columns(conv.weight, *features);
  const Value& x = plan.input(node);
  const Value& y = node.output;
  auto layer = std::make_shared<Layer>(Layer{
      .weight =
          PackedConv2d(conv.shape, conv.weight.data(), data_or_null(conv.weight_zero_point), conv.group_size),
      .multiplier = std::move(conv.multiplier),
      .bias_f32 = std::move(conv.bias_f32),
      .slopes = std::move(conv.activation.slopes),
      .bias = std::move(conv.bias)});
  conv.weight = {};  // the canonical weights are not needed again
  Conv2dCall& call = layer->call;
  call.h = x.h;
  call.w = x.w;
  call.input_zero_point = x.zero_point;
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
  return layer;
}

int64_t macs(const Conv2dShape& shape, const Value& y) {
  return y.size() * (shape.in_channels / shape.groups) * shape.kernel_h * shape.kernel_w;
}

/// Pairs of output and tap that meet on the input, along one axis.
int64_t meetings(const std::vector<AxisSegment>& segments) {
  int64_t count = 0;
  for (const AxisSegment& segment : segments) count += segment.size() * segment.taps();
  return count;
}

/// Multiplications a sample that do not fall on padding.
int64_t useful_macs(const Conv2dShape& s, const Value& x, const Value& y) {
  const int64_t rows = meetings(axis_segments(y.h, x.h, s.kernel_h, s.stride_h, s.pad_top, s.dilation_h));
  const int64_t columns = meetings(axis_segments(y.w, x.w, s.kernel_w, s.stride_w, s.pad_left, s.dilation_w));
  return rows * columns * y.c * (s.in_channels / s.groups);
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
  const int x = dynamic ? dynamic_input.codes : plan.input_buffer(node);
  const int residual = node.inputs.size() > 1 ? plan.input_buffer(node, 1) : -1;
  const int y = plan.output_buffer(node);
  step.reads = {x};
  if (residual >= 0) step.reads.push_back(residual);
  if (dynamic) step.reads.insert(step.reads.end(), {dynamic_input.scale, dynamic_input.zero_point});
  step.writes = {y};
  step.kernel = layer->weight.kernel_name();
  step.macs = macs(conv.shape, node.output);
  step.useful_macs = useful_macs(conv.shape, plan.input(node), node.output);
  step.bytes = layer->bytes();

  const auto data_of = [=](const Run& run) {
    return Conv2dData{
        .input = run.at<const uint8_t>(x),
        .residual = residual >= 0 ? run.at<const uint8_t>(residual) : nullptr,
        .input_zero_points = dynamic ? run.at<const int32_t>(dynamic_input.zero_point) : nullptr,
        .sample_scale = dynamic ? run.at<const float>(dynamic_input.scale) : nullptr,
        .output = run.at<uint8_t>(y)};
  };
  step.work = [=](int64_t samples, int threads) {
    Conv2dCall call = layer->call;
    call.n = samples;
    const auto conv_plan = std::make_shared<const Conv2dPlan>(layer->weight, call, threads);
    return Work{conv_plan->items(), [=](const Run& run, int64_t begin, int64_t end) {
                  conv_plan->run(data_of(run), begin, end);
                }};
  };
  plan.add(std::move(step));
} catch (const std::invalid_argument& error) {
  throw Error("node " + quote(node.name) + " (" + node.op + "): " + error.what());
}

}  // namespace ptqx::engine
