#include "engine/engine.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <limits>
#include <thread>

#include "kernels/dispatch.h"
#include "random_network.h"
#include "reference.h"

namespace ptqx::engine {
namespace {

using nlohmann::json;
using testing::ConvOptions;
using testing::Graph;
using testing::GraphBuilder;
using testing::Made;

std::vector<float> some_input(int64_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> input(static_cast<size_t>(size));
  for (float& value : input) value = normal(random);
  return input;
}

/// The reference, sample by sample.
std::vector<float> expected_output(const Graph& graph, const Engine& engine,
                                   const std::vector<float>& input) {
  std::vector<float> expected;
  const auto size = static_cast<std::ptrdiff_t>(engine.input_size());
  for (auto sample = input.begin(); sample != input.end(); sample += size) {
    const std::vector<float> output = testing::reference_run(graph, {sample, sample + size});
    expected.insert(expected.end(), output.begin(), output.end());
  }
  return expected;
}

std::vector<float> run(const Engine& engine, const std::vector<float>& input, const Executor& executor) {
  const int64_t batch = static_cast<int64_t>(input.size()) / engine.input_size();
  std::vector<float> output(static_cast<size_t>(batch * engine.output_size()), -12345.0F);
  engine.run(input.data(), batch, output.data(), executor);
  return output;
}

/// Equal numbers; the message says where they part.
void expect_equal(const std::vector<float>& actual, const std::vector<float>& expected,
                  const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_EQ(actual[i], expected[i]) << what << ", element " << i << " of " << actual.size();
  }
}

class IsaCeiling {
 public:
  explicit IsaCeiling(kernels::Isa isa) : before_(kernels::isa_ceiling()) { kernels::set_isa_ceiling(isa); }
  ~IsaCeiling() { kernels::set_isa_ceiling(before_); }

 private:
  kernels::Isa before_;
};

std::vector<kernels::Isa> supported_isas() {
  std::vector<kernels::Isa> isas;
  for (const kernels::Isa isa : kernels::kIsas) {
    if (kernels::isa_supported(isa)) isas.push_back(isa);
  }
  return isas;
}

void expect_parity(const Graph& graph, unsigned seed, const std::vector<int64_t>& batches) {
  const std::vector<uint8_t> bytes = graph.bytes();
  const ThreadExecutor two_threads(2);
  for (const kernels::Isa isa : supported_isas()) {
    const IsaCeiling ceiling(isa);
    const Engine engine = Engine::from_bytes(bytes);
    for (const int64_t batch : batches) {
      const std::vector<float> input = some_input(batch * engine.input_size(), seed);
      const std::vector<float> expected = expected_output(graph, engine, input);
      const std::string what = "seed " + std::to_string(seed) + ", " + kernels::isa_name(isa) + ", batch " +
                               std::to_string(batch) + "\n" + engine.describe();
      expect_equal(run(engine, input, SerialExecutor()), expected, "1 thread, " + what);
      expect_equal(run(engine, input, two_threads), expected, "2 threads, " + what);
      if (::testing::Test::HasFatalFailure()) {
        ADD_FAILURE() << graph.document.dump(1).substr(0, 6000);
        return;
      }
    }
  }
}

class RandomIntegerNetwork : public ::testing::TestWithParam<unsigned> {};
TEST_P(RandomIntegerNetwork, EqualsReference) {
  for (unsigned i = 0; i < 10; ++i) {
    const unsigned seed = GetParam() * 10 + i;
    expect_parity(testing::random_integer_network(seed), seed, {1, 3});
    if (HasFailure()) return;
  }
}
INSTANTIATE_TEST_SUITE_P(Seeds, RandomIntegerNetwork, ::testing::Range(0U, 20U));

class RandomDynamicNetwork : public ::testing::TestWithParam<unsigned> {};
TEST_P(RandomDynamicNetwork, EqualsReference) {
  for (unsigned i = 0; i < 10; ++i) {
    const unsigned seed = GetParam() * 10 + i;
    expect_parity(testing::random_dynamic_network(seed), seed, {1, 3});
    if (HasFailure()) return;
  }
}
INSTANTIATE_TEST_SUITE_P(Seeds, RandomDynamicNetwork, ::testing::Range(0U, 10U));

/// What engines of several outputs give, one after another.
std::vector<std::vector<float>> run_outputs(const Engine& engine, const std::vector<float>& input,
                                            const Executor& executor) {
  const int64_t batch = static_cast<int64_t>(input.size()) / engine.input_size();
  std::vector<std::vector<float>> outputs;
  std::vector<float*> places;
  for (const OutputInfo& output : engine.outputs()) {
    outputs.emplace_back(static_cast<size_t>(batch * output.size), -12345.0F);
    places.push_back(outputs.back().data());
  }
  engine.run(input.data(), batch, places, executor);
  return outputs;
}

class RandomNetworkOfSeveralOutputs : public ::testing::TestWithParam<unsigned> {};
TEST_P(RandomNetworkOfSeveralOutputs, EqualsReference) {
  for (unsigned seed = GetParam() * 10; seed < GetParam() * 10 + 10; ++seed) {
    const Graph graph = testing::random_network_of_several_outputs(seed);
    const json& tuple = graph.document["output"]["tuple"];
    std::vector<std::string> names = {tuple[0]};
    for (const json& name : tuple[1]["list"]) names.push_back(name);
    names.insert(names.end(), {"input", names[0]});
    const std::vector<std::string> paths = {"0", "1.0", "1.1", "1.2", "2.input", "2.again"};

    const Engine engine = Engine::from_bytes(graph.bytes());
    ASSERT_EQ(engine.outputs().size(), paths.size());
    for (const int64_t batch : {1, 3}) {
      const std::vector<float> input = some_input(batch * engine.input_size(), seed);
      std::vector<std::vector<float>> expected(names.size());
      for (auto sample = input.begin(); sample != input.end(); sample += engine.input_size()) {
        const auto values = testing::reference_values(graph, {sample, sample + engine.input_size()}, names);
        for (size_t i = 0; i < names.size(); ++i) {
          expected[i].insert(expected[i].end(), values[i].begin(), values[i].end());
        }
      }
      const auto alone = run_outputs(engine, input, SerialExecutor());
      const auto together = run_outputs(engine, input, ThreadExecutor(2));
      for (size_t i = 0; i < names.size(); ++i) {
        EXPECT_EQ(engine.outputs()[i].path, paths[i]);
        const std::string what = "seed " + std::to_string(seed) + ", output " + paths[i];
        expect_equal(alone[i], expected[i], "1 thread, " + what);
        expect_equal(together[i], expected[i], "2 threads, " + what);
      }
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Seeds, RandomNetworkOfSeveralOutputs, ::testing::Range(0U, 10U));

TEST(Engine, run_when_outputs_are_not_as_many_says_how_many_there_are) {
  const Engine engine = Engine::from_bytes(testing::random_network_of_several_outputs(1).bytes());
  const std::vector<float> input = some_input(engine.input_size(), 1);
  float output = 0.0F;
  try {
    engine.run(input.data(), 1, &output, SerialExecutor());
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "the network has 6 outputs; got 1");
  }
  EXPECT_THROW(engine.output_size(), Error);
  EXPECT_THROW(engine.output_shape(), Error);
  EXPECT_THROW(engine.run(input.data(), 1, std::vector<float*>(6, nullptr), SerialExecutor()), Error);
}

TEST(RandomNetwork, outputs_vary_enough_to_tell_a_wrong_one) {
  int varied = 0;
  for (unsigned seed = 0; seed < 200; ++seed) {
    const Graph graph = testing::random_integer_network(seed);
    const Engine engine = Engine::from_bytes(graph.bytes());
    std::vector<float> output = testing::reference_run(graph, some_input(engine.input_size(), seed));
    std::sort(output.begin(), output.end());
    varied += std::unique(output.begin(), output.end()) - output.begin() >= 4 ? 1 : 0;
  }
  EXPECT_GE(varied, 135);
}

/// conv, residual conv, max pool, flatten, linear: the shape of most classifiers.
Graph classifier(int64_t size = 16) {
  GraphBuilder b({3, size, size});
  Made x = b.quantize(b.input, {4.0F / 255.0F, 128});
  ConvOptions o{.out = 32, .padding = {1, 1, 1, 1}};
  o.activation = "relu";
  x = b.conv2d(x, o);
  o.residual = &x;
  x = b.conv2d(x, o);
  x = b.moved("max_pool2d", {x}, {32, size / 2, size / 2},
              {{"kernel_size", {2, 2}},
               {"stride", {2, 2}},
               {"padding", {0, 0}},
               {"dilation", {1, 1}},
               {"ceil_mode", false}});
  x = b.moved("flatten", {x}, {8 * size * size}, {{"start_dim", 1}});
  ConvOptions last{.out = 10, .float_output = true};
  return b.finish(b.linear(x, last));
}

TEST(Engine, run_batches_of_every_size_equal_reference) { expect_parity(classifier(), 7, {0, 1, 2, 65}); }

/// Convolutions of every driver, an addition, a product, pools and features, without floats between them.
Graph fixed_point_network() {
  GraphBuilder b({3, 12, 12});
  const auto without_floats = [&](const std::string& op, const std::vector<Made>& inputs,
                                  std::vector<int64_t> shape, const std::vector<double>& factors,
                                  nlohmann::json attrs) {
    nlohmann::json roles = nlohmann::json::object();
    const testing::Qparams q = b.some_qparams(inputs[0].scale);
    b.set_fixed_point(factors, 1, q, attrs, roles);
    return b.codes(op + "_fixed_point", inputs, std::move(shape), q, attrs, roles);
  };
  const ConvOptions same{.out = 32, .padding = {1, 1, 1, 1}, .fixed_point = true};
  ConvOptions depthwise = same;
  depthwise.groups = 32;
  const Made stem = b.conv2d(b.quantize(b.input, {4.0F / 255.0F, 128}), same);
  const Made branch = b.conv2d(b.conv2d(stem, same), depthwise);
  Made x = without_floats("add", {stem, branch}, stem.shape, {0.7, 0.6}, {{"activation", "none"}});
  x = without_floats("mul", {x, branch}, x.shape, {0.01}, nlohmann::json::object());
  x = without_floats("avg_pool2d", {x}, {32, 7, 7}, {0.3},
                     {{"kernel_size", {2, 2}}, {"stride", {2, 2}}, {"padding", {1, 1}}});
  x = without_floats("adaptive_avg_pool2d", {x}, {32, 3, 2}, {0.2}, {{"output_size", {3, 2}}});
  x = b.moved("flatten", {x}, {32 * 6}, {{"start_dim", 1}});
  x = b.linear(x, {.out = 40, .fixed_point = true});
  return b.finish(b.linear(x, {.out = 10, .float_output = true}));
}

TEST(Engine, networks_without_floats_equal_reference) {
  expect_parity(fixed_point_network(), 4, {1, 2, 9, 64});
}

TEST(Engine, networks_without_floats_refuse_what_needs_floats) {
  const auto message = [](const std::function<void(nlohmann::json&, Graph&)>& change) -> std::string {
    Graph graph = fixed_point_network();
    change(graph.document["nodes"][1], graph);  // the first convolution
    try {
      Engine::from_bytes(graph.bytes());
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  const auto expect_part = [&](const char* part, const std::function<void(nlohmann::json&, Graph&)>& change) {
    EXPECT_NE(message(change).find(part), std::string::npos) << message(change);
  };
  const auto s32 = [](std::vector<int64_t> shape, std::vector<int32_t> values) {
    return testing::Tensor::of(DType::kI32, std::move(shape), values);
  };
  EXPECT_EQ(message([](nlohmann::json&, Graph&) {}), "");
  expect_part("an activation is a clamp", [](nlohmann::json& node, Graph&) {
    node["attrs"]["activation"] = "hardswish";
    node["attrs"]["activation_args"] = {0.1F};
  });
  expect_part("gives uint8", [](nlohmann::json& node, Graph&) { node["output"] = {{"dtype", "float32"}}; });
  expect_part("low must be a whole number from 0 to 255",
              [](nlohmann::json& node, Graph&) { node["attrs"]["low"] = -1; });
  expect_part("low must not be above high", [](nlohmann::json& node, Graph&) {
    node["attrs"]["low"] = 200;
    node["attrs"]["high"] = 100;
  });
  expect_part("group_size must be 0", [](nlohmann::json& node, Graph&) { node["attrs"]["group_size"] = 4; });
  expect_part("bias must be I32", [](nlohmann::json& node, Graph& graph) {
    graph.tensors[node["tensors"]["bias"]] =
        testing::Tensor::of(DType::kF32, {32}, std::vector<float>(32, 1.0F));
  });
  expect_part("multiplier must be I32 [1, 32]", [&](nlohmann::json& node, Graph& graph) {
    graph.tensors[node["tensors"]["multiplier"]] = s32({2}, {1, 1});
  });
  expect_part("multiplier must be at least 0", [&](nlohmann::json& node, Graph& graph) {
    graph.tensors[node["tensors"]["multiplier"]] = s32({1, 1}, {-1});
  });
  for (const int32_t places : {-1, 63}) {
    expect_part("shift must be 0 to 62", [&](nlohmann::json& node, Graph& graph) {
      graph.tensors[node["tensors"]["shift"]] = s32({1}, {places});
    });
  }
  expect_part("1 to 1 names",
              [](nlohmann::json& node, Graph&) { node["inputs"].push_back(node["inputs"][0]); });
}

/// Binary layers with padding, strides, a residual and features, of channels that fill no dword.
Graph binary_network() {
  GraphBuilder b({3, 9, 7});
  Made x = b.quantize(b.input, {0.02F, 128});
  x = b.conv2d(x, {.out = 45, .padding = {1, 1, 1, 1}});
  const ConvOptions same{.out = 45,
                         .padding = {1, 1, 1, 1},
                         .bits = 1,
                         .bias = false,
                         .binary = true,
                         .activation = "leaky_relu",
                         .residual = &x};
  Made y = b.conv2d(b.signs(x, 128), same);
  y = b.conv2d(b.signs(y, 100), {.out = 20, .stride = {2, 1}, .bits = 1, .bias_f32 = true, .binary = true});
  y = b.moved("flatten", {b.signs(y, 130)}, {20 * 4 * 5}, {{"start_dim", 1}});
  return b.finish(b.linear(y, {.out = 11, .bits = 1, .float_output = true, .binary = true}));
}

TEST(Engine, binary_layers_equal_reference) { expect_parity(binary_network(), 3, {1, 2, 17}); }

TEST(Engine, binary_layers_refuse_what_is_no_sign) {
  const auto message = [](const Graph& graph) -> std::string {
    try {
      Engine::from_bytes(graph.bytes());
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  Graph graph = binary_network();
  for (auto& [name, tensor] : graph.tensors) {
    if (name.ends_with("weight_levels")) tensor = testing::Tensor::of<int8_t>(DType::kI8, {1, 2}, {-2, 1});
  }
  EXPECT_NE(message(graph).find("weights must be -1 and 1"), std::string::npos) << message(graph);
  GraphBuilder b({3, 4, 4});
  const Made codes = b.quantize(b.input, {0.02F, 128});
  const Graph unsigned_codes =
      b.finish(b.conv2d(codes, {.out = 4, .bits = 1, .float_output = true, .binary = true}));
  EXPECT_NE(message(unsigned_codes).find("takes signs"), std::string::npos) << message(unsigned_codes);
}

TEST(Engine, run_batch_in_chunks_equals_sample_by_sample) {
  const Graph graph = classifier(64);
  const Engine engine = Engine::from_bytes(graph.bytes());
  const std::vector<float> input = some_input(65 * engine.input_size(), 3);
  const std::vector<float> whole = run(engine, input, SerialExecutor());
  std::vector<float> single(static_cast<size_t>(65 * engine.output_size()));
  for (int64_t i = 0; i < 65; ++i) {
    engine.run(input.data() + i * engine.input_size(), 1, single.data() + i * engine.output_size(),
               SerialExecutor());
  }
  expect_equal(whole, single, "65 samples");
  EXPECT_LT(engine.arena_bytes(65), 10 * engine.arena_bytes(1)) << engine.describe();
}

TEST(Engine, run_every_batch_and_thread_count_is_equal) {
  const Graph graph = classifier();
  const Engine engine = Engine::from_bytes(graph.bytes());
  for (const int64_t batch : {1, 2, 3, 5, 8, 13}) {
    const std::vector<float> input = some_input(batch * engine.input_size(), 5);
    const std::vector<float> expected = expected_output(graph, engine, input);
    for (const int threads : {1, 2, 3, 4}) {
      expect_equal(run(engine, input, ThreadExecutor(threads)), expected, "threads");
    }
  }
}

TEST(Engine, profile_covers_the_steps_and_runs_them) {
  const Graph graph = classifier();
  const Engine engine = Engine::from_bytes(graph.bytes());
  const std::vector<float> input = some_input(2 * engine.input_size(), 5);
  std::vector<float> output(static_cast<size_t>(2 * engine.output_size()));
  int64_t useful = 0, nominal = 0;
  for (const StepProfile& step : engine.profile(input.data(), 2, std::array{output.data()}, 3)) {
    EXPECT_GE(step.seconds, 0.0);
    useful += step.useful_macs;
    nominal += step.macs;
  }
  EXPECT_GT(useful, 0);
  EXPECT_LT(useful, nominal) << "convolutions with padding";
  expect_equal(output, expected_output(graph, engine, input), "after profiling");
  EXPECT_THROW(engine.profile(input.data(), 2, std::array{output.data()}, 0), Error);
}

TEST(Engine, run_from_eight_callers_at_a_time_equals_reference) {
  const Graph graph = classifier();
  const Engine engine = Engine::from_bytes(graph.bytes());
  const ThreadExecutor executor(2);
  std::vector<std::thread> callers;
  std::vector<int> wrong(8, 0);
  for (unsigned caller = 0; caller < 8; ++caller) {
    callers.emplace_back([&, caller] {
      const std::vector<float> input = some_input((caller + 1) * engine.input_size(), caller);
      const std::vector<float> expected = expected_output(graph, engine, input);
      for (int i = 0; i < 25; ++i) {
        if (run(engine, input, executor) != expected) ++wrong[caller];
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(wrong, std::vector<int>(8, 0));
}

TEST(Engine, every_strategy_of_every_step_gives_the_same_numbers) {
  const Graph graph = classifier();
  Engine engine = Engine::from_bytes(graph.bytes());
  const ThreadExecutor executor(2);
  const std::vector<float> input = some_input(3 * engine.input_size(), 5);
  const std::vector<float> expected = expected_output(graph, engine, input);
  const std::vector<TunableStep> steps = engine.tunable_steps(3, 2);  // a sample for each, one together
  ASSERT_EQ(steps.size(), 6U);
  for (size_t choice = 0; choice < 16; ++choice) {
    std::vector<TunedStep> tuned;
    for (const TunableStep& step : steps) {
      EXPECT_EQ(step.samples, 1);
      tuned.push_back(
          {step.name, step.samples, step.threads, step.strategies[choice % step.strategies.size()]});
    }
    engine.use(tuned);
    expect_equal(run(engine, input, executor), expected, "choice " + std::to_string(choice));
  }
}

TEST(Engine, tune_chooses_one_strategy_for_each_step) {
  const Graph graph = classifier();
  Engine engine = Engine::from_bytes(graph.bytes());
  const ThreadExecutor executor(2);
  const std::vector<TunableStep> steps = engine.tunable_steps(3, 2);
  const std::vector<TunedStep> tuned = engine.tune(steps, executor, 0.01);
  ASSERT_EQ(tuned.size(), steps.size());
  for (const TunableStep& step : steps) {
    const auto same = [&](const TunedStep& choice) {
      return choice.name == step.name && choice.samples == step.samples && choice.threads == step.threads;
    };
    const auto found = std::find_if(tuned.begin(), tuned.end(), same);
    ASSERT_NE(found, tuned.end());
    EXPECT_EQ(std::count(step.strategies.begin(), step.strategies.end(), found->strategy), 1);
  }
  const std::vector<float> input = some_input(3 * engine.input_size(), 5);
  engine.use(tuned);
  expect_equal(run(engine, input, executor), expected_output(graph, engine, input), "tuned");
}

TEST(Engine, tune_bad_arguments_throw) {
  const Engine engine = Engine::from_bytes(classifier().bytes());
  std::vector<TunableStep> steps = engine.tunable_steps(4, 4);
  EXPECT_THROW(engine.tunable_steps(0, 1), Error);
  EXPECT_THROW(engine.tunable_steps(1, 0), Error);
  const auto expect_error = [&](const TunableStep& step) {
    EXPECT_THROW(engine.tune({step}, SerialExecutor(), 0.01), Error);
  };
  TunableStep step = steps.at(0);
  step.threads = 3;
  expect_error(step);
  step = steps.at(0);
  step.samples = 0;
  expect_error(step);
  step = steps.at(0);
  step.name = "absent";
  expect_error(step);
  step = steps.at(0);
  step.strategies.clear();
  expect_error(step);
}

TEST(Engine, choices_in_the_file_hold_on_the_machine_they_were_made_on) {
  Graph graph = classifier();
  const TunableStep step = Engine::from_bytes(graph.bytes()).tunable_steps(1, 1).at(0);
  const auto used = [&](const std::string& machine) {
    graph.document["tuning"] = {
        {"machine", machine},
        {"steps",
         {{{"name", step.name}, {"samples", 1}, {"threads", 1}, {"strategy", step.strategies.back()}}}}};
    size_t count = 0;
    for (const StepInfo& info : Engine::from_bytes(graph.bytes()).steps()) count += info.tuned.size();
    return count;
  };
  EXPECT_EQ(used(tuning_machine()), 1U);
  EXPECT_EQ(used("another"), 0U);
  const IsaCeiling ceiling(kernels::Isa::kScalar);
  EXPECT_NE(tuning_machine().find("scalar"), std::string::npos) << tuning_machine();
}

/// Attention between the pixels of each row: several panels and blocks of rows, scores that are real values
/// or codes, and results that are.
Graph attention_network(std::vector<int64_t> shape, bool real_scores, bool real_result) {
  GraphBuilder b(std::move(shape));
  const Made x = b.quantize(b.input, {4.0F / 255.0F, 128});
  const int64_t c = x.shape[0], h = x.shape[1], w = x.shape[2];
  const Made value = b.conv2d(x, {.out = c, .padding = {1, 1, 1, 1}});
  const Made key = b.moved("pad", {value}, {c, h, w + 3}, {{"padding", {0, 2, 0, 1}}});
  const float scale = x.scale * key.scale * 5.0F * std::sqrt(static_cast<float>(c));
  const auto to = [&](bool real, testing::Qparams q) { return real ? std::nullopt : std::optional(q); };
  const Made scores =
      b.matmul(x, key, 1.0 / std::sqrt(static_cast<double>(c)), to(real_scores, {scale, 100}));
  const Made weights = b.softmax(real_scores ? scores : b.dequantize(scores), testing::Qparams{0.002F, 3});
  const Made pixels = b.moved("permute", {key}, {w + 3, h, c}, {{"dims", {0, 3, 2, 1}}});
  const Made y = b.matmul(weights, pixels, 1.0, to(real_result, {key.scale * 0.2F, 120}));
  return b.finish(real_result ? y : b.dequantize(y));
}

TEST(Engine, attention_equals_reference) {
  for (const bool real_scores : {false, true}) {
    for (const bool real_result : {false, true}) {
      expect_parity(attention_network({33, 1, 130}, real_scores, real_result), 3, {1, 3});
      expect_parity(attention_network({70, 5, 7}, real_scores, real_result), 4, {1, 9});
      expect_parity(attention_network({1, 2, 1}, real_scores, real_result), 5, {0, 1, 40});
    }
  }
}

TEST(Engine, softmax_of_values_that_are_not_finite_names_the_node) {
  for (const bool real : {false, true}) {
    GraphBuilder b({3, 2, 2});
    const Made sums = b.reals("add", {b.input, b.input}, {3, 2, 2}, {{"activation", "none"}});
    const Made shares = b.softmax(sums, real ? std::nullopt : std::optional(testing::Qparams{0.01F, 0}));
    const Engine engine = Engine::from_bytes(b.finish(real ? shares : b.dequantize(shares)).bytes());
    std::vector<float> input = some_input(2 * engine.input_size(), 1);
    EXPECT_NO_THROW(run(engine, input, SerialExecutor()));
    input[13] = 3e38F;
    try {
      run(engine, input, SerialExecutor());
      FAIL() << "no error";
    } catch (const Error& error) {
      EXPECT_STREQ(error.what(), "node 'n2': 1 input values are not finite");
    }
  }
}

TEST(Engine, flatten_before_linear_is_no_step) {
  const std::string steps = Engine::from_bytes(classifier().bytes()).describe();
  EXPECT_EQ(steps.find("transpose"), std::string::npos) << steps;
  EXPECT_EQ(steps.find("flatten"), std::string::npos) << steps;
}

TEST(Engine, flatten_also_read_as_output_is_put_into_nchw_order) {
  GraphBuilder b({4, 3, 3});
  const Made x = b.quantize(b.input, {4.0F / 255.0F, 128});
  const Made flat = b.moved("flatten", {x}, {36}, {{"start_dim", 1}});
  b.linear(flat, {.out = 4});
  expect_parity(b.finish(b.dequantize(flat)), 5, {2});
}

TEST(Engine, reshape_keeps_nchw_order) {
  for (const bool quantized : {false, true}) {
    for (const std::vector<int64_t>& shape :
         std::vector<std::vector<int64_t>>{{24}, {4, 3, 2}, {1, 24, 1}, {24, 1, 1}}) {
      GraphBuilder b({2, 3, 4});
      const Made x = quantized ? b.quantize(b.input, {4.0F / 255.0F, 128}) : b.input;
      const Made y = b.moved("reshape", {x}, shape, {{"sample_shape", shape}});
      expect_parity(b.finish(quantized ? b.dequantize(y) : y), 1, {2});
    }
  }
  GraphBuilder flat({24, 1, 1});
  const Made features = flat.moved("flatten", {flat.input}, {24}, {{"start_dim", 1}});
  const Made map = flat.moved("reshape", {features}, {2, 3, 4}, {{"sample_shape", {2, 3, 4}}});
  expect_parity(flat.finish(flat.moved("permute", {map}, {3, 4, 2}, {{"dims", {0, 2, 3, 1}}})), 1, {2});
}

TEST(Engine, permute_of_every_order) {
  std::vector<int64_t> dims = {0, 1, 2, 3};
  const std::vector<int64_t> extents = {1, 2, 3, 4};
  do {
    GraphBuilder b({2, 3, 4});
    const std::vector<int64_t> shape = {extents[static_cast<size_t>(dims[1])],
                                        extents[static_cast<size_t>(dims[2])],
                                        extents[static_cast<size_t>(dims[3])]};
    expect_parity(b.finish(b.moved("permute", {b.input}, shape, {{"dims", dims}})), 1, {2});
  } while (std::next_permutation(dims.begin() + 1, dims.end()));
}

TEST(Engine, reshape_and_permute_refuse_what_does_not_fit) {
  const auto message = [](const std::string& op, const json& attrs) -> std::string {
    GraphBuilder b({2, 3, 4});
    const Graph graph = b.finish(b.moved(op, {b.input}, {2, 3, 4}, attrs));
    try {
      Engine::from_bytes(graph.bytes());
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  const auto says = [&](const std::string& op, const json& attrs, const char* part) {
    EXPECT_NE(message(op, attrs).find(part), std::string::npos)
        << op << " " << attrs << ": " << message(op, attrs);
  };
  says("reshape", {{"sample_shape", {5, 5, 1}}}, "as many elements as the input");
  says("reshape", {{"sample_shape", {2, 1, 3, 4}}}, "1 to 3 whole numbers");
  says("reshape", {{"sample_shape", json::array()}}, "1 to 3 whole numbers");
  says("reshape", {{"sample_shape", {1LL << 40, 1LL << 40, 1LL << 40}}}, "whole numbers from");
  says("reshape", {{"sample_shape", {24, 24, 24}}}, "as many elements as the input");
  says("permute", {{"dims", {0, 1, 1, 2}}}, "every axis once");
  says("permute", {{"dims", {1, 0, 2, 3}}}, "batch first");
  says("permute", {{"dims", {0, 1, 2}}}, "4 whole numbers");
}

TEST(Engine, graph_that_gives_its_input_back_copies_it) {
  GraphBuilder b({2, 3, 4});
  expect_parity(b.finish(b.input), 1, {2});
  GraphBuilder flat({2, 3, 4});
  expect_parity(flat.finish(flat.moved("flatten", {flat.input}, {24}, {{"start_dim", 1}})), 1, {2});
}

TEST(Engine, run_input_not_finite_names_the_count) {
  const Engine engine = Engine::from_bytes(classifier().bytes());
  std::vector<float> input = some_input(2 * engine.input_size(), 1);
  input[5] = std::numeric_limits<float>::quiet_NaN();
  input[800] = -std::numeric_limits<float>::infinity();
  try {
    run(engine, input, SerialExecutor());
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("2 of 1536 values"), std::string::npos) << error.what();
  }
}

TEST(Engine, run_bad_arguments_throw) {
  const Engine engine = Engine::from_bytes(classifier().bytes());
  float value = 0;
  EXPECT_THROW(engine.run(&value, -1, &value, SerialExecutor()), Error);
  EXPECT_THROW(engine.run(nullptr, 1, &value, SerialExecutor()), Error);
  EXPECT_THROW(engine.run(&value, 1, nullptr, SerialExecutor()), Error);
  EXPECT_NO_THROW(engine.run(nullptr, 0, nullptr, SerialExecutor()));
}

TEST(Engine, open_reads_what_write_container_wrote) {
  const std::string path =
      (std::filesystem::temp_directory_path() / ("engine_test_" + std::to_string(::getpid()) + ".ptqx"))
          .string();
  const Graph graph = classifier();
  write_container(path, graph.document.dump(), graph.views());
  const Engine engine = Engine::open(path);
  std::filesystem::remove(path);
  EXPECT_EQ(engine.input_shape(), (std::vector<int64_t>{3, 16, 16}));
  EXPECT_EQ(engine.output_shape(), (std::vector<int64_t>{10}));
  EXPECT_EQ(engine.input_size(), 768);
  EXPECT_GT(engine.packed_bytes(), 32 * 32 * 9U);
  const std::vector<float> input = some_input(engine.input_size(), 2);
  expect_equal(run(engine, input, SerialExecutor()), testing::reference_run(graph, input), "from a file");
}

TEST(Engine, arena_is_shared_by_values_that_do_not_live_together) {
  GraphBuilder b({8, 16, 16});
  Made x = b.quantize(b.input, {0.02F, 0});
  for (int i = 0; i < 20; ++i) x = b.conv2d(x, {.out = 8, .padding = {1, 1, 1, 1}});
  const Engine engine = Engine::from_bytes(b.finish(b.dequantize(x)).bytes());
  // Two values of 2 KiB, the float32 output before it is put into NCHW order, slack and scratch.
  EXPECT_LT(engine.arena_bytes(1), 2U * 2048 + 8192 + 8192);
}

}  // namespace
}  // namespace ptqx::engine
