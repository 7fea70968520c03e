// layer_norm, group_norm, softmax.

#include <algorithm>
#include <memory>

#include "engine/plan.h"
#include "kernels/group_norm.h"
#include "kernels/layer_norm.h"
#include "kernels/reduce.h"
#include "kernels/softmax.h"

namespace ptqx::engine {

void add_steps(PlanBuilder& plan, const Node& node, LayerNorm& norm) {
  const int from = plan.input_buffer(node);
  const int to = plan.output_buffer(node);
  const auto parameters = std::make_shared<const LayerNorm>(std::move(norm));
  const auto normalize = [=, y = node.output, name = node.name](const Run& run, int64_t sample, int64_t begin,
                                                                int64_t end) {
    const kernels::LayerNormArgs args = {.channels = y.c,
                                         .weight = parameters->weight.data(),
                                         .bias = parameters->bias.data(),
                                         .eps = parameters->eps};
    const int64_t first = sample * y.size() + begin * y.c;
    const float* x = run.at<const float>(from) + first;
    require_finite(name, y.is_float ? kernels::layer_norm_f32(x, end - begin, args, run.at<float>(to) + first)
                                    : kernels::layer_norm_u8(x, end - begin, args, {y.scale, y.zero_point},
                                                             y.qmin, y.qmax, run.at<uint8_t>(to) + first));
  };
  plan.add({.name = node.name,
            .op = node.op,
            .reads = {from},
            .writes = {to},
            .work = [=, y = node.output](
                        int64_t samples,
                        int) { return row_work(samples, y.pixels(), y.c * (y.is_float ? 8 : 5), normalize); },
            .bytes = 2 * sizeof(float) * static_cast<size_t>(node.output.c)});
}

namespace {

constexpr int64_t kSumChannels = 32;  // of which the sums are computed together

/// Writes the sums of a sample's channels, and behind them those of the squares; the buffer that holds them.
int add_channel_sums(PlanBuilder& plan, const Node& node) {
  const int from = plan.input_buffer(node);
  const int64_t channels = node.output.c;
  const int to = plan.new_buffer(2 * sizeof(double) * static_cast<size_t>(channels));
  const auto sum = [=, h = node.output.h, w = node.output.w](const Run& run, int64_t sample, int64_t begin,
                                                             int64_t end) {
    const int64_t first = begin * kSumChannels, count = std::min(end * kSumChannels, channels) - first;
    double* sums = run.at<double>(to) + sample * 2 * channels + first;
    kernels::channel_sums(run.at<const float>(from) + sample * h * w * channels + first, h, w, channels,
                          count, sums, sums + channels);
  };
  plan.add({.name = node.name,
            .op = "channel_sums",
            .reads = {from},
            .writes = {to},
            .work = [=, blocks = (channels + kSumChannels - 1) / kSumChannels,
                     bytes = node.output.pixels() * kSumChannels * 4](int64_t samples, int) {
              return row_work(samples, blocks, bytes, sum);
            }});
  return to;
}

/// Writes mean and, behind them, inverse deviation of a sample's channels; the buffer that holds them.
int add_group_statistics(PlanBuilder& plan, const Node& node, const GroupNorm& norm) {
  const int from = plan.input_buffer(node);
  const int sums = add_channel_sums(plan, node);
  const int to = plan.new_buffer(2 * sizeof(float) * static_cast<size_t>(node.output.c));
  const kernels::GroupNormArgs args = {node.output.pixels(), node.output.c, norm.groups, norm.eps};
  const auto of_sample = [=, name = node.name](const Run& run, int64_t sample, int64_t, int64_t) {
    const double* sums_of_sample = run.at<const double>(sums) + sample * 2 * args.channels;
    float* mean = run.at<float>(to) + sample * 2 * args.channels;
    if (!kernels::group_statistics(args, sums_of_sample, sums_of_sample + args.channels, mean,
                                   mean + args.channels)) {
      const int64_t size = args.pixels * args.channels;
      require_finite(name, kernels::min_max(run.at<const float>(from) + sample * size, size).nonfinite);
    }
  };
  plan.add(
      {.name = node.name,
       .op = "group_statistics",
       .reads = {from, sums},
       .writes = {to},
       .work = [=](int64_t samples, int) { return row_work(samples, 1, args.channels * 24, of_sample); }});
  return to;
}

}  // namespace

void add_steps(PlanBuilder& plan, const Node& node, GroupNorm& norm) {
  const int from = plan.input_buffer(node);
  const int statistics = add_group_statistics(plan, node, norm);
  const int to = plan.output_buffer(node);
  const auto parameters = std::make_shared<const GroupNorm>(std::move(norm));
  const auto normalize = [=, y = node.output](const Run& run, int64_t sample, int64_t begin, int64_t end) {
    const float* mean = run.at<const float>(statistics) + sample * 2 * y.c;
    const kernels::NormalizeChannelsArgs args = {.channels = y.c,
                                                 .mean = mean,
                                                 .inverse_deviation = mean + y.c,
                                                 .weight = parameters->weight.data(),
                                                 .bias = parameters->bias.data(),
                                                 .scale = y.scale,
                                                 .zero_point = y.zero_point,
                                                 .qmin = y.qmin,
                                                 .qmax = y.qmax};
    const int64_t first = sample * y.size() + begin * y.c;
    const float* x = run.at<const float>(from) + first;
    if (y.is_float) {
      kernels::normalize_channels_f32(x, end - begin, args, run.at<float>(to) + first);
    } else {
      kernels::normalize_channels_u8(x, end - begin, args, run.at<uint8_t>(to) + first);
    }
  };
  plan.add({.name = node.name,
            .op = node.op,
            .reads = {from, statistics},
            .writes = {to},
            .work = [=, y = node.output](
                        int64_t samples,
                        int) { return row_work(samples, y.pixels(), y.c * (y.is_float ? 8 : 5), normalize); },
            .bytes = 2 * sizeof(float) * static_cast<size_t>(node.output.c)});
}

void add_steps(PlanBuilder& plan, const Node& node, const Softmax& softmax) {
  const int from = plan.input_buffer(node);
  const int to = plan.output_buffer(node);
  const auto of_pixels = [=, y = node.output, log = softmax.log, name = node.name](
                             const Run& run, int64_t sample, int64_t begin, int64_t end) {
    const int64_t first = sample * y.size() + begin * y.c;
    const float* x = run.at<const float>(from) + first;
    require_finite(name, y.is_float
                             ? kernels::softmax_f32(x, end - begin, y.c, log, run.at<float>(to) + first)
                             : kernels::softmax_u8(x, end - begin, y.c, {y.scale, y.zero_point}, y.qmin,
                                                   y.qmax, run.at<uint8_t>(to) + first));
  };
  plan.add({.name = node.name,
            .op = node.op,
            .reads = {from},
            .writes = {to},
            .work = [=, y = node.output](int64_t samples, int) {
              return row_work(samples, y.pixels(), y.c * 8, of_pixels);
            }});
}

}  // namespace ptqx::engine
