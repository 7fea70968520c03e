#include "engine/stages.h"

#include <gtest/gtest.h>

#include "engine/container.h"
#include "engine/engine.h"
#include "graph_builder.h"
#include "reference.h"

namespace ptqx::engine {
namespace {

using testing::ConvOptions;
using testing::Graph;
using testing::GraphBuilder;
using testing::Made;

Made max_pool(GraphBuilder& b, const Made& x, int64_t size) {
  return b.moved("max_pool2d", {x}, {x.shape[0], x.shape[1] / size, x.shape[2] / size},
                 {{"kernel_size", {size, size}},
                  {"stride", {size, size}},
                  {"padding", {0, 0}},
                  {"dilation", {1, 1}},
                  {"ceil_mode", false}});
}

/// Maps that shrink from 700 kB to 5 kB, with a residual that lives on across small ones.
Graph shrinking_maps() {
  GraphBuilder b({3, 200, 200});
  ConvOptions conv{.out = 15, .padding = {1, 1, 1, 1}};
  conv.activation = "relu";
  Made x = b.conv2d(b.quantize(b.input, {4.0F / 255.0F, 128}), conv);
  x = max_pool(b, x, 5);
  const Made before = x;
  x = max_pool(b, b.conv2d(x, conv), 1);
  conv.residual = &before;
  x = max_pool(b, b.conv2d(x, conv), 2);
  x = b.moved("flatten", {x}, {15 * 20 * 20}, {{"start_dim", 1}});
  return b.finish(b.linear(x, {.out = 10, .float_output = true}));
}

Plan plan_of(const Graph& graph) { return make_plan(read_program(Container::view(graph.bytes()))); }

TEST(Stages, late_steps_take_more_samples_than_early_ones) {
  const Plan plan = plan_of(shrinking_maps());
  const int64_t share = largest_share(plan);
  const std::vector<Stage> stages = stages_of(plan, share);
  ASSERT_GT(stages.size(), 1U);
  size_t step = 0;
  int64_t before = 0;
  for (const Stage& stage : stages) {
    EXPECT_EQ(stage.begin, step);
    EXPECT_LT(stage.begin, stage.end);
    EXPECT_GT(stage.samples, before);
    step = stage.end;
    before = stage.samples;
  }
  EXPECT_EQ(step, plan.steps.size());
  EXPECT_EQ(stages.back().samples, share);
}

TEST(Stages, passes_cover_every_step_and_sample_once) {
  const Plan plan = plan_of(shrinking_maps());
  for (const int64_t samples : {1, 2, 3, 5, 7, 8}) {
    const BoundPlan bound(plan, samples, 1);
    std::vector<int64_t> done(plan.steps.size(), 0);
    for (const Pass& pass : bound.passes) {
      for (size_t step = pass.first_step; step < pass.first_step + pass.works->size(); ++step) {
        EXPECT_EQ(done[step], pass.first_sample);
        done[step] += pass.samples;
      }
    }
    EXPECT_EQ(done, std::vector<int64_t>(plan.steps.size(), samples));
  }
}

TEST(Stages, buffers_of_one_stage_take_no_more_room_than_its_samples) {
  const Plan plan = plan_of(shrinking_maps());
  const int64_t share = largest_share(plan);
  const size_t at_once = StagedPlacement(plan, single_stage(plan, share), share).bytes;
  EXPECT_LT(StagedPlacement(plan, stages_of(plan, share), share).bytes, at_once / 2);
}

struct Residual {
  Graph graph;
  size_t maps;  // of 8 x 16 x 16 that live at a time
};

Graph classified(GraphBuilder& b, const Made& map) {
  const Made features = b.moved("flatten", {max_pool(b, map, 16)}, {8}, {{"start_dim", 1}});
  return b.finish(b.linear(features, {.out = 4, .float_output = true}));
}

/// a = conv(input), y = conv(conv(a)) + a, and perhaps conv(y) + a.
Residual residual_block(bool read_again) {
  GraphBuilder b({3, 16, 16});
  ConvOptions conv{.out = 8, .padding = {1, 1, 1, 1}};
  const Made a = b.conv2d(b.quantize(b.input, {4.0F / 255.0F, 128}), conv);
  Made y = b.conv2d(a, conv);
  conv.residual = &a;
  y = b.conv2d(y, conv);
  if (read_again) y = b.conv2d(y, conv);
  return {classified(b, y), read_again ? 3U : 2U};
}

/// y = conv(a) + a
Residual residual_of_its_own_input() {
  GraphBuilder b({3, 16, 16});
  ConvOptions conv{.out = 8, .padding = {1, 1, 1, 1}};
  const Made a = b.conv2d(b.quantize(b.input, {4.0F / 255.0F, 128}), conv);
  conv.residual = &a;
  const Made y = b.conv2d(a, conv);
  return {classified(b, y), 2U};
}

TEST(Stages, result_takes_the_place_of_a_residual_that_nobody_needs_any_more) {
  for (const Residual& residual :
       {residual_block(false), residual_block(true), residual_of_its_own_input()}) {
    const Plan plan = plan_of(residual.graph);
    constexpr int64_t kSamples = 5;
    const StagedPlacement placement(plan, single_stage(plan, kSamples), kSamples);
    const size_t map = 8 * 16 * 16 * kSamples;
    EXPECT_GE(placement.bytes, residual.maps * map);
    EXPECT_LT(placement.bytes, residual.maps * map + map / 2);
    const Engine engine = Engine::from_bytes(residual.graph.bytes());
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    std::vector<float> input(static_cast<size_t>(engine.input_size()));
    for (float& value : input) value = normal(random);
    std::vector<float> output(static_cast<size_t>(engine.output_size()));
    for (const int threads : {1, 2}) {
      engine.run(input.data(), 1, output.data(), ThreadExecutor(threads));
      EXPECT_EQ(output, testing::reference_run(residual.graph, input));
    }
  }
}

TEST(Stages, run_of_every_batch_and_thread_count_equals_reference) {
  const Graph graph = shrinking_maps();
  const Engine engine = Engine::from_bytes(graph.bytes());
  constexpr int64_t kBatch = 19;
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> input(static_cast<size_t>(kBatch * engine.input_size()));
  for (float& value : input) value = normal(random);
  std::vector<float> expected;
  for (auto sample = input.begin(); sample != input.end(); sample += engine.input_size()) {
    const std::vector<float> output = testing::reference_run(graph, {sample, sample + engine.input_size()});
    expected.insert(expected.end(), output.begin(), output.end());
  }
  for (const int64_t batch : {1, 2, 3, 8, 9, 13, 19}) {
    for (const int threads : {1, 2, 3}) {
      std::vector<float> output(static_cast<size_t>(batch * engine.output_size()), -1.0F);
      engine.run(input.data(), batch, output.data(), ThreadExecutor(threads));
      const std::vector<float> first(expected.begin(), expected.begin() + batch * engine.output_size());
      EXPECT_EQ(output, first) << "batch " << batch << ", threads " << threads;
    }
  }
}

}  // namespace
}  // namespace ptqx::engine
