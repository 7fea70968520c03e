#include "engine/plan.h"

#include <algorithm>
#include <utility>

#include "engine/engine.h"
#include "engine/text.h"

namespace ptqx::engine {

std::vector<Lifetime> Plan::lifetimes() const {
  std::vector<Lifetime> lifetimes;
  for (const size_t bytes : buffer_bytes) lifetimes.push_back({bytes, static_cast<int>(steps.size()), -1});
  for (size_t i = 0; i < steps.size(); ++i) {
    for (const auto* buffers : {&steps[i].reads, &steps[i].writes}) {
      for (const int index : *buffers) {
        Lifetime& lifetime = lifetimes[static_cast<size_t>(index)];
        lifetime.first_step = std::min(lifetime.first_step, static_cast<int>(i));
        lifetime.last_step = std::max(lifetime.last_step, static_cast<int>(i));
      }
    }
  }
  return lifetimes;
}

std::vector<Succession> Plan::successions() const {
  std::vector<Succession> successions;
  const std::vector<Lifetime> alive = lifetimes();
  for (size_t i = 0; i < steps.size(); ++i) {
    if (is_callers(steps[i].overwrites) || is_callers(steps[i].writes[0])) continue;
    const auto from = static_cast<size_t>(steps[i].overwrites), to = static_cast<size_t>(steps[i].writes[0]);
    const bool last_read = alive[from].last_step == static_cast<int>(i);
    if (last_read && alive[from].bytes == alive[to].bytes) successions.push_back({i, from, to});
  }
  return successions;
}

Work Plan::work(const Step& step, int64_t samples, int threads) const {
  if (!step.strategies) return step.work(samples, threads);
  const auto fits = [&](const TunedStep& choice) {
    return choice.name == step.name && choice.samples == samples && choice.threads == threads;
  };
  const auto found = std::find_if(tuned.begin(), tuned.end(), fits);
  return found == tuned.end() ? step.work(samples, threads)
                              : step.strategies->work(samples, threads, found->strategy);
}

void require_finite(const std::string& node, int64_t nonfinite) {
  if (nonfinite == 0) return;
  throw Error("node " + quote(node) + ": " + std::to_string(nonfinite) + " input values are not finite");
}

PlanBuilder::PlanBuilder(const Program& program)
    : program_(program),
      consumers_(program.nodes.size()),
      buffers_(program.nodes.size(), -1),
      in_memory_order_(program.nodes.size(), false) {
  for (const Node& node : program.nodes) {
    for (const int input : node.inputs) consumers_[static_cast<size_t>(input)].push_back(index_of(node));
  }
  plan_.input = program.nodes.front().output;
  plan_.outputs = program.outputs;
  plan_.buffer_bytes = {plan_.input.bytes()};
  for (const NetworkOutput& output : program.outputs) plan_.buffer_bytes.push_back(output.value.bytes());
  plan_.tuned = program.tuned;
  buffer(0) = kInputBuffer;
}

std::vector<const Node*> PlanBuilder::only_consumers(const Node& node) const {
  std::vector<const Node*> nodes;
  if (is_output(index_of(node))) return nodes;
  for (const int consumer : consumers_[static_cast<size_t>(index_of(node))]) {
    nodes.push_back(&program_.nodes[static_cast<size_t>(consumer)]);
  }
  return nodes;
}

int PlanBuilder::new_buffer(size_t bytes_per_sample) {
  plan_.buffer_bytes.push_back(bytes_per_sample);
  return static_cast<int>(plan_.buffer_bytes.size()) - 1;
}

bool PlanBuilder::input_is_planar(const Node& node) const {
  return node.inputs[0] == 0 && !plan_.input.order_free();
}

int PlanBuilder::input_buffer(const Node& node, size_t index) {
  if (node.inputs[index] != 0 || plan_.input.order_free()) return buffer(node.inputs[index]);
  if (interleaved_input_ < 0) {
    interleaved_input_ = new_buffer(plan_.input.bytes());
    add(transpose_step(program_.nodes[0].name, plan_.input, kInputBuffer, interleaved_input_, false));
  }
  return interleaved_input_;
}

int PlanBuilder::output_buffer(const Node& node) {
  const int index = index_of(node);
  const auto& outputs = program_.outputs;
  const auto first = std::find_if(outputs.begin(), outputs.end(),
                                  [&](const NetworkOutput& output) { return output.node == index; });
  const bool direct =
      first != outputs.end() && node.output.order_free() && consumers_[static_cast<size_t>(index)].empty();
  return buffer(index) = direct ? kFirstOutputBuffer + static_cast<int>(first - outputs.begin())
                                : new_buffer(node.output.bytes());
}

bool PlanBuilder::plan_as_view(const Node& node) {
  const int index = index_of(node);
  const auto takes_any_order = [&](int consumer) {
    const Node& user = program_.nodes[static_cast<size_t>(consumer)];
    const auto* layer = std::get_if<Conv2d>(&user.operation);
    const bool is_residual = user.inputs.size() > 1 && user.inputs[1] == index;
    return layer != nullptr && layer->linear && layer->group_size == 0 && !is_residual;
  };
  const auto& consumers = consumers_[static_cast<size_t>(index)];
  // The graph's own input is planar already.
  const bool keeps_order = input(node).order_free() || node.inputs[0] == 0;
  const bool reordered =
      !is_output(index) && std::all_of(consumers.begin(), consumers.end(), takes_any_order);
  if (!keeps_order && !reordered) return false;
  buffer(index) = buffer(node.inputs[0]);
  in_memory_order_[static_cast<size_t>(index)] = !keeps_order;
  return true;
}

const Value* PlanBuilder::features_from(const Node& node) const {
  if (!in_memory_order_[static_cast<size_t>(node.inputs[0])]) return nullptr;
  return &input(source(node, 0));
}

void PlanBuilder::require_slack(size_t bytes) { plan_.slack = std::max(plan_.slack, bytes); }

bool PlanBuilder::is_output(int node) const {
  return std::any_of(program_.outputs.begin(), program_.outputs.end(),
                     [&](const NetworkOutput& output) { return output.node == node; });
}

void PlanBuilder::give_outputs(const Node& node) {
  const int index = index_of(node), from = buffer(index);
  // What is the caller's is planar already: a plain copy.
  const Value value = plan_.is_callers(from) ? Value{.c = node.output.size()} : node.output;
  for (size_t i = 0; i < program_.outputs.size(); ++i) {
    const int to = kFirstOutputBuffer + static_cast<int>(i);
    if (program_.outputs[i].node == index && from != to)
      add(transpose_step(node.name, value, from, to, true));
  }
}

Plan make_plan(Program program) {
  std::vector<bool> needed(program.nodes.size(), false);
  for (const NetworkOutput& output : program.outputs) needed[static_cast<size_t>(output.node)] = true;
  for (size_t i = program.nodes.size(); i-- > 0;) {
    if (!needed[i]) continue;
    for (const int input : program.nodes[i].inputs) needed[static_cast<size_t>(input)] = true;
  }
  PlanBuilder builder(program);
  for (size_t i = 0; i < program.nodes.size(); ++i) {
    if (!needed[i]) continue;
    Node& node = program.nodes[i];
    std::visit([&](auto& operation) { add_steps(builder, node, operation); }, node.operation);
    builder.give_outputs(node);
  }
  return builder.finish();
}

}  // namespace ptqx::engine
