#pragma once

// From a Program to steps: which buffers there are, which nodes need no step, which kernels run. Made
// once; nothing in a plan depends on the batch size.

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "engine/arena.h"
#include "engine/program.h"
#include "engine/step.h"
#include "engine/tuning.h"

namespace ptqx::engine {

/// A step that writes one buffer in the place of another, which nobody needs any more.
struct Succession {
  size_t step, from, to;  // from and to: buffers
};

struct Plan {
  Value input;
  std::vector<NetworkOutput> outputs;
  std::vector<Step> steps;
  std::vector<size_t> buffer_bytes;  // a sample
  size_t slack = 64;                 // bytes that kernels may read after the end of a buffer
  std::vector<TunedStep> tuned;      // what does not fit a step is of no account

  /// Whether a buffer is the caller's.
  bool is_callers(int buffer) const { return buffer < kFirstOutputBuffer + static_cast<int>(outputs.size()); }
  Work work(const Step& step, int64_t samples, int threads) const;
  /// From the first to the last step that reads or writes each buffer, with the bytes of a sample.
  std::vector<Lifetime> lifetimes() const;
  /// In the order of the steps.
  std::vector<Succession> successions() const;
};

/// Weights are packed and then dropped. Throws Error.
Plan make_plan(Program program);

/// Throws Error if a node saw values that are NaN or infinite.
void require_finite(const std::string& node, int64_t nonfinite);

/// What the steps of a node are made with.
class PlanBuilder {
 public:
  explicit PlanBuilder(const Program& program);

  /// The node that gives an input.
  const Node& source(const Node& node, size_t index = 0) const {
    return program_.nodes[static_cast<size_t>(node.inputs[index])];
  }
  const Value& input(const Node& node, size_t index = 0) const { return source(node, index).output; }
  /// The nodes that read what `node` gives, each as often as it does, if it is no output.
  std::vector<const Node*> only_consumers(const Node& node) const;
  /// The buffer that holds an input, in memory order; made on the way for the graph's own input.
  int input_buffer(const Node& node, size_t index = 0);
  /// The buffer of input 0 without that: the graph's own input has its planes one after another.
  int planar_input_buffer(const Node& node) { return buffer(node.inputs[0]); }
  /// Is input 0 the graph's own, whose planes lie one after another?
  bool input_is_planar(const Node& node) const;
  /// The buffer that `node` is to write.
  int output_buffer(const Node& node);
  /// A buffer that lives from the step that writes it to the last that reads it.
  int new_buffer(size_t bytes_per_sample);

  /// What `node` gives lies in memory as its input does.
  void share_input(const Node& node) { buffer(index_of(node)) = input_buffer(node); }
  /// Flatten is no step if its features keep their order, or if linear layers can take them in memory
  /// order by permuting their weights. Returns whether it was planned so.
  bool plan_as_view(const Node& node);
  /// The spatial value whose memory order the features of input 0 have, or null if they are in NCHW order.
  const Value* features_from(const Node& node) const;

  void require_slack(size_t bytes);
  void add(Step step) { plan_.steps.push_back(std::move(step)); }

  /// What `node` gave goes to the outputs that are to have it.
  void give_outputs(const Node& node);
  Plan finish() { return std::move(plan_); }

 private:
  int& buffer(int node) { return buffers_[static_cast<size_t>(node)]; }
  int index_of(const Node& node) const { return static_cast<int>(&node - program_.nodes.data()); }
  bool is_output(int node) const;

  const Program& program_;
  std::vector<std::vector<int>> consumers_;  // of each node
  std::vector<int> buffers_;                 // of each node; -1 before it is known
  std::vector<bool> in_memory_order_;        // features whose order is that of the flattened value
  int interleaved_input_ = -1;               // the graph's input as [h][w][c]
  Plan plan_;
};

void add_steps(PlanBuilder& plan, const Node& node, const Input& input);
void add_steps(PlanBuilder& plan, const Node& node, Constant& constant);
void add_steps(PlanBuilder& plan, const Node& node, const Quantize& quantize);
void add_steps(PlanBuilder& plan, const Node& node, const Dequantize& dequantize);
void add_steps(PlanBuilder& plan, const Node& node, Conv2d& conv);
void add_steps(PlanBuilder& plan, const Node& node, const MaxPool2d& max_pool);
void add_steps(PlanBuilder& plan, const Node& node, const AvgPool2d& avg_pool);
void add_steps(PlanBuilder& plan, const Node& node, const AdaptiveAvgPool2d& adaptive);
void add_steps(PlanBuilder& plan, const Node& node, const Add& add);
void add_steps(PlanBuilder& plan, const Node& node, const Mul& mul);
void add_steps(PlanBuilder& plan, const Node& node, const Activate& activate);
void add_steps(PlanBuilder& plan, const Node& node, const ApplyFunction& apply);
void add_steps(PlanBuilder& plan, const Node& node, const Lookup& lookup);
void add_steps(PlanBuilder& plan, const Node& node, LayerNorm& norm);
void add_steps(PlanBuilder& plan, const Node& node, GroupNorm& norm);
void add_steps(PlanBuilder& plan, const Node& node, const Softmax& softmax);
void add_steps(PlanBuilder& plan, const Node& node, const Matmul& matmul);
void add_steps(PlanBuilder& plan, const Node& node, const Cat& cat);
void add_steps(PlanBuilder& plan, const Node& node, const Flatten& flatten);
void add_steps(PlanBuilder& plan, const Node& node, const Reshape& reshape);
void add_steps(PlanBuilder& plan, const Node& node, const Permute& permute);
void add_steps(PlanBuilder& plan, const Node& node, const Slice& slice);
void add_steps(PlanBuilder& plan, const Node& node, const ChannelShuffle& shuffle);
void add_steps(PlanBuilder& plan, const Node& node, const Pad& pad);
void add_steps(PlanBuilder& plan, const Node& node, const PixelShuffle& shuffle);
void add_steps(PlanBuilder& plan, const Node& node, const PixelUnshuffle& unshuffle);
void add_steps(PlanBuilder& plan, const Node& node, const UpsampleNearest2d& upsample);
void add_steps(PlanBuilder& plan, const Node& node, const UpsampleBilinear2d& upsample);
void add_steps(PlanBuilder& plan, const Node& node, const UpsampleZeros2d& upsample);

/// Whether every reader of `node` is a convolution by phases (conv_phases.h), so that nobody needs its zeros.
bool only_read_by_phases(const PlanBuilder& plan, const Node& node);

/// [h][w][c] to [c][h][w] or back, for every sample; elements of 1 or 4 bytes.
Step transpose_step(const std::string& name, const Value& value, int from, int to, bool to_planar);

}  // namespace ptqx::engine
