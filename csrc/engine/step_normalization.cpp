// layer_norm, softmax.

#include <memory>

#include "engine/plan.h"
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

void add_steps(PlanBuilder& plan, const Node& node, const Softmax& softmax) {
  const int from = plan.input_buffer(node);
  const int to = plan.output_buffer(node);
  plan.add({.name = node.name,
            .op = node.op,
            .reads = {from},
            .writes = {to},
            .work = [=, classes = node.output.c, log = softmax.log, name = node.name](int64_t samples, int) {
              return row_work(samples, 1, classes * 8, [=](const Run& run, int64_t sample, int64_t, int64_t) {
                const float* x = run.at<const float>(from) + sample * classes;
                require_finite(name, kernels::min_max(x, classes).nonfinite);
                kernels::softmax_f32(x, 1, classes, log, run.at<float>(to) + sample * classes);
              });
            }});
}

}  // namespace ptqx::engine
