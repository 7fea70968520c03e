#include "engine/engine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <iterator>
#include <limits>
#include <new>
#include <set>
#include <thread>
#include <tuple>
#include <utility>

#include "engine/bound_plans.h"
#include "engine/container.h"
#include "engine/plan.h"
#include "engine/program.h"
#include "engine/stages.h"
#include "engine/team.h"
#include "engine/text.h"
#include "engine/tune.h"
#include "engine/worker_choice.h"

namespace ptqx::engine {
namespace {

std::vector<int64_t> shape_of(const Value& value) {
  if (value.sequence) return {value.c, value.w};
  return value.spatial ? std::vector<int64_t>{value.c, value.h, value.w} : std::vector<int64_t>{value.c};
}

/// The file's own bytes are dropped before anything is packed.
Program read_file(const std::string& path) {
  const Container container = Container::open(path);
  try {
    return read_program(container);
  } catch (const Error& error) {
    throw Error(path + ": " + error.what());
  }
}

std::vector<OutputInfo> output_infos(const Plan& plan) {
  std::vector<OutputInfo> infos;
  for (const NetworkOutput& output : plan.outputs) {
    infos.push_back({output.path, shape_of(output.value), output.value.size()});
  }
  return infos;
}

/// Where the samples of a call come from and where what the network makes of them goes.
struct Call {
  const float* input;
  std::span<float* const> outputs;
  int64_t first = 0;  // sample of both

  Call from(int64_t sample) const { return {input, outputs, first + sample}; }
};

}  // namespace

struct Engine::Impl {
  explicit Impl(Plan made)
      : plan(std::move(made)),
        input_shape(shape_of(plan.input)),
        outputs(output_infos(plan)),
        max_chunk(largest_share(plan)),
        blocks(std::max(std::thread::hardware_concurrency(), 1U)) {}

  /// Samples that each of several workers takes at once: pieces of one batch are as equal as can be.
  int64_t chunks(int64_t batch, int threads) const {
    const int64_t rounds = (batch + threads * max_chunk - 1) / (threads * max_chunk);
    return rounds * threads;
  }

  /// The first sample of one of `count` chunks.
  static int64_t chunk_begin(int64_t samples, int64_t chunk, int64_t count) {
    return samples * chunk / count;
  }

  /// Samples that some workers take through the steps.
  struct Share {
    int64_t samples;
    int workers;
    int at_a_time;  // such shares
    auto operator<=>(const Share&) const = default;
  };

  /// What a run may be shared out to.
  std::set<Share> shares(int64_t batch, int threads) const {
    std::set<Share> result;
    const int64_t shared_out = batch - batch % threads;
    const int64_t count = chunks(shared_out, threads);
    for (int64_t chunk = 0; chunk < count; ++chunk) {
      const int64_t samples =
          chunk_begin(shared_out, chunk + 1, count) - chunk_begin(shared_out, chunk, count);
      result.insert({samples, 1, threads});
    }
    if (shared_out == batch) return result;
    for (const int workers : WorkerChoice::candidates(threads)) {
      result.insert({batch - shared_out, workers, 1});
    }
    return result;
  }

  StepInfo info(const Step& step) const {
    StepInfo info{.name = step.name,
                  .op = step.op,
                  .kernel = step.kernel,
                  .suits_tiles = step.suits_tiles,
                  .bytes = step.writes.empty() ? 0 : plan.buffer_bytes[static_cast<size_t>(step.writes[0])],
                  .macs = step.macs,
                  .useful_macs = step.useful_macs,
                  .tuned = {}};
    if (!step.strategies) return info;
    std::copy_if(plan.tuned.begin(), plan.tuned.end(), std::back_inserter(info.tuned),
                 [&](const TunedStep& tuned) { return tuned.name == step.name; });
    return info;
  }

  void check(const Call& call, int64_t batch) const {
    if (batch < 0 || batch > std::numeric_limits<int32_t>::max()) {
      throw Error("batch must be 0 to 2147483647; got " + std::to_string(batch));
    }
    if (call.outputs.size() != outputs.size()) {
      throw Error("the network has " + std::to_string(outputs.size()) + " outputs; got " +
                  std::to_string(call.outputs.size()));
    }
    const auto& given = call.outputs;
    const bool null = call.input == nullptr || std::find(given.begin(), given.end(), nullptr) != given.end();
    if (batch > 0 && null) throw Error("input and output must not be null");
  }

  const OutputInfo& only_output() const {
    if (outputs.size() == 1) return outputs[0];
    throw Error("the network has " + std::to_string(outputs.size()) + " outputs, which outputs() lists");
  }

  Run bind(const BoundPlan& bound, const Pass& pass, Block& block, const Call& call,
           std::atomic<int64_t>& nonfinite) const {
    const StagedPlacement& placement = bound.placement;
    uint8_t* memory = block.reserve(placement.bytes);
    Run run{.buffers = {}, .nonfinite_inputs = nonfinite};
    run.buffers.reserve(plan.buffer_bytes.size());
    for (size_t i = 0; i < plan.buffer_bytes.size(); ++i) {
      const size_t skipped =
          placement.whole[i] ? static_cast<size_t>(pass.first_sample) * plan.buffer_bytes[i] : 0;
      run.buffers.push_back(memory + placement.offsets[i] + skipped);
    }
    // No step writes to the input.
    const int64_t first = call.first + pass.first_sample;
    const float* first_input = call.input + first * plan.input.size();
    run.buffers[kInputBuffer] = const_cast<uint8_t*>(reinterpret_cast<const uint8_t*>(first_input));
    for (size_t i = 0; i < outputs.size(); ++i) {
      run.buffers[kFirstOutputBuffer + i] =
          reinterpret_cast<uint8_t*>(call.outputs[i] + first * outputs[i].size);
    }
    return run;
  }

  /// All steps on the calling thread.
  void run_alone(const BoundPlan& bound, const Call& call, std::atomic<int64_t>& nonfinite) const {
    const BlockLease block(blocks);
    for (const Pass& pass : bound.passes) {
      const Run run = bind(bound, pass, *block, call, nonfinite);
      for (const Work& work : *pass.works) work.run(run, 0, work.items);
    }
  }

  /// Every step by all workers of the plan together.
  void run_together(const BoundPlan& bound, const Call& call, const Executor& executor,
                    std::atomic<int64_t>& nonfinite) const {
    const BlockLease block(blocks);
    const Pass& pass = bound.passes.front();
    const Run run = bind(bound, pass, *block, call, nonfinite);
    Team team(*pass.works, run, bound.threads);
    executor.parallel_for(bound.threads, [&](int64_t begin, int64_t end) {
      for (int64_t worker = begin; worker < end; ++worker) team.work();
    });
    team.rethrow();
  }

  /// Fewer samples than there are workers, by as many of these as turn out to be the fastest.
  void run_few(const Call& call, int64_t samples, const Executor& executor,
               std::atomic<int64_t>& nonfinite) const {
    using Clock = std::chrono::steady_clock;
    const auto choice = worker_choices.find(samples, executor.threads());
    const int workers = choice->next();
    const auto bound = bound_plans.find(plan, samples, workers);
    const auto start = Clock::now();
    if (workers == 1) {
      run_alone(*bound, call, nonfinite);
    } else {
      run_together(*bound, call, executor, nonfinite);
    }
    choice->record(workers, std::chrono::duration<double>(Clock::now() - start).count());
  }

  /// As many samples as can be shared out evenly are run by workers each for itself, chunk by chunk, so
  /// that activations stay in its cache and nobody waits. The rest is run by all together.
  void run(const Call& call, int64_t batch, const Executor& executor, std::atomic<int64_t>& nonfinite) const {
    const int threads = executor.threads();
    const int64_t shared_out = batch - batch % threads;
    const int64_t count = chunks(shared_out, threads);
    executor.parallel_for(count, [&](int64_t begin, int64_t end) {
      for (int64_t chunk = begin; chunk < end; ++chunk) {
        const int64_t first = chunk_begin(shared_out, chunk, count);
        const auto bound = bound_plans.find(plan, chunk_begin(shared_out, chunk + 1, count) - first, 1);
        run_alone(*bound, call.from(first), nonfinite);
      }
    });
    if (shared_out < batch) run_few(call.from(shared_out), batch - shared_out, executor, nonfinite);
  }

  std::vector<StepProfile> profile(const Call& call, int64_t samples, int rounds) const {
    using Clock = std::chrono::steady_clock;
    const auto bound = bound_plans.find(plan, samples, 1);
    const BlockLease block(blocks);
    std::atomic<int64_t> nonfinite = 0;
    std::vector<std::vector<double>> seconds(plan.steps.size());
    std::vector<const Work*> works(plan.steps.size(), nullptr);  // the last of each step
    for (int round = 0; round < rounds; ++round) {
      for (std::vector<double>& step_seconds : seconds) step_seconds.push_back(0.0);
      for (const Pass& pass : bound->passes) {
        const Run run = bind(*bound, pass, *block, call, nonfinite);
        for (size_t i = 0; i < pass.works->size(); ++i) {
          const Work& work = (*pass.works)[i];
          const Clock::time_point begin = Clock::now();
          work.run(run, 0, work.items);
          works[pass.first_step + i] = &work;
          seconds[pass.first_step + i].back() += std::chrono::duration<double>(Clock::now() - begin).count();
        }
      }
    }
    std::vector<StepProfile> profiles;
    for (size_t i = 0; i < plan.steps.size(); ++i) {
      const auto median = seconds[i].begin() + static_cast<std::ptrdiff_t>(seconds[i].size() / 2);
      std::nth_element(seconds[i].begin(), median, seconds[i].end());
      profiles.push_back({info(plan.steps[i]), *median, works[i]->strategy});
      if (!works[i]->kernel.empty()) profiles.back().kernel = works[i]->kernel;
    }
    return profiles;
  }

  Plan plan;
  std::vector<int64_t> input_shape;
  std::vector<OutputInfo> outputs;
  int64_t max_chunk;  // samples
  mutable BlockPool blocks;
  mutable BoundPlans bound_plans;
  mutable WorkerChoices worker_choices;
};

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;

Engine Engine::open(const std::string& path) try {
  return Engine(std::make_unique<Impl>(make_plan(read_file(path))));
} catch (const std::bad_alloc&) {
  throw Error(path + " does not fit in memory");
}

Engine Engine::from_bytes(std::span<const uint8_t> bytes) try {
  return Engine(std::make_unique<Impl>(make_plan(read_program(Container::view(bytes)))));
} catch (const std::bad_alloc&) {
  throw Error("the network does not fit in memory");
}

const std::vector<int64_t>& Engine::input_shape() const { return impl_->input_shape; }
int64_t Engine::input_size() const { return impl_->plan.input.size(); }
const std::vector<OutputInfo>& Engine::outputs() const { return impl_->outputs; }
const std::vector<int64_t>& Engine::output_shape() const { return impl_->only_output().shape; }
int64_t Engine::output_size() const { return impl_->only_output().size; }

void Engine::run(const float* input, int64_t batch, std::span<float* const> outputs,
                 const Executor& executor) const try {
  const Call call{input, outputs};
  impl_->check(call, batch);
  if (batch == 0) return;
  std::atomic<int64_t> nonfinite = 0;
  impl_->run(call, batch, executor, nonfinite);
  if (nonfinite > 0) {
    throw Error("input: " + std::to_string(nonfinite) + " of " + std::to_string(batch * input_size()) +
                " values are not finite (NaN or infinity)");
  }
} catch (const std::bad_alloc&) {
  throw Error("a batch of " + std::to_string(batch) + " does not fit in memory");
}

std::vector<StepProfile> Engine::profile(const float* input, int64_t batch, std::span<float* const> outputs,
                                         int rounds) const {
  const Call call{input, outputs};
  impl_->check(call, batch);
  if (batch == 0 || rounds < 1) throw Error("batch and rounds must be at least 1");
  return impl_->profile(call, batch, rounds);
}

std::vector<StepInfo> Engine::steps() const {
  std::vector<StepInfo> infos;
  for (const Step& step : impl_->plan.steps) infos.push_back(impl_->info(step));
  return infos;
}

std::string Engine::describe() const {
  std::string text;
  double macs = 0;
  char line[256];
  for (const StepInfo& step : steps()) {
    std::snprintf(line, sizeof line, "%-32s %-20s %10zu bytes %14lld MACs  %s\n", step.name.c_str(),
                  step.op.c_str(), step.bytes, static_cast<long long>(step.macs), step.kernel.c_str());
    text += line;
    macs += static_cast<double>(step.macs);
  }
  std::snprintf(line, sizeof line, "%zu steps, %.2f M MACs a sample, chunks of at most %lld samples, ",
                impl_->plan.steps.size(), macs / 1e6, static_cast<long long>(impl_->max_chunk));
  text += line + join(impl_->input_shape, "x") + " to ";
  for (const OutputInfo& output : impl_->outputs) {
    text += (&output == impl_->outputs.data() ? "" : ", ") + join(output.shape, "x");
  }
  return text + "\n";
}

std::vector<TunableStep> Engine::tunable_steps(int64_t batch, int threads) const {
  if (batch < 1 || threads < 1) throw Error("batch and threads must be at least 1");
  std::vector<TunableStep> tunable;
  std::set<std::tuple<size_t, int64_t, int>> seen;
  const Plan& plan = impl_->plan;
  for (const auto& [samples, workers, at_a_time] : impl_->shares(batch, threads)) {
    const auto bound = impl_->bound_plans.find(plan, samples, workers);
    for (const Pass& pass : bound->passes) {
      for (size_t i = pass.first_step; i < pass.first_step + pass.works->size(); ++i) {
        const Step& step = plan.steps[i];
        if (!step.strategies || !seen.emplace(i, pass.samples, workers).second) continue;
        std::vector<std::string> names = step.strategies->names(pass.samples, workers);
        if (names.size() < 2) continue;
        tunable.push_back({step.name, step.strategies->layer, pass.samples, workers, std::move(names)});
      }
    }
  }
  return tunable;
}

std::vector<TunedStep> Engine::tune(const std::vector<TunableStep>& steps, const Executor& executor,
                                    double seconds) const {
  return engine::tune(impl_->plan, steps, executor, seconds);
}

void Engine::use(std::vector<TunedStep> tuned) {
  impl_->plan.tuned = std::move(tuned);
  impl_->bound_plans.clear();
  impl_->worker_choices.clear();
}

size_t Engine::packed_bytes() const {
  size_t bytes = sizeof(Impl) + impl_->plan.steps.size() * sizeof(Step);
  for (const Step& step : impl_->plan.steps) bytes += step.bytes;
  return bytes;
}

size_t Engine::arena_bytes(int64_t batch, int threads) const {
  if (batch <= 0) return 0;
  size_t most = 0;
  for (const auto& [samples, workers, at_a_time] : impl_->shares(batch, threads)) {
    const auto bound = impl_->bound_plans.find(impl_->plan, samples, workers);
    most = std::max(most, static_cast<size_t>(at_a_time) * bound->placement.bytes +
                              static_cast<size_t>(at_a_time * workers) * bound->scratch_bytes);
  }
  return most;
}

}  // namespace ptqx::engine
