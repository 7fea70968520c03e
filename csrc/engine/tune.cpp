#include "engine/tune.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <random>
#include <span>
#include <string>
#include <utility>

#include "engine/engine.h"
#include "engine/stages.h"
#include "engine/team.h"
#include "engine/text.h"

namespace ptqx::engine {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kLeastRounds = 9, kMostRounds = 200;
// A strategy wins if it takes at most this share of the usual one's time in the median round, and less time
// than that one in three rounds of four.
constexpr double kClearShare = 0.97;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double quantile(std::vector<double> values, double share) {
  const auto at =
      values.begin() + static_cast<std::ptrdiff_t>(share * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

/// The strategies of one step that are still compared, the usual one first, and their times.
struct Contest {
  size_t step;  // of the plan
  std::string name;
  std::vector<std::string> names;
  std::vector<Work> works;
  std::vector<std::vector<double>> seconds;  // [names][rounds]

  /// How long a strategy takes as a share of the usual one, at that quantile of the rounds.
  double share(size_t index, double of_rounds) const {
    std::vector<double> shares;
    for (size_t round = 0; round < seconds[0].size(); ++round) {
      shares.push_back(seconds[index][round] / seconds[0][round]);
    }
    return quantile(std::move(shares), of_rounds);
  }

  /// 0, the usual one, unless another is clearly faster.
  size_t winner() const {
    size_t best = 0;
    double best_share = kClearShare;
    for (size_t i = 1; i < names.size(); ++i) {
      const double median = share(i, 0.5);
      if (median <= best_share && share(i, 0.75) < 1.0) best = i, best_share = median;
    }
    return best;
  }

  /// Only the usual one and `index` go on, with no times yet.
  void reduce_to(size_t index) {
    names = index == 0 ? std::vector{names[0]} : std::vector{names[0], names[index]};
    works = index == 0 ? std::vector{works[0]} : std::vector{works[0], works[index]};
    seconds.assign(names.size(), {});
  }
};

/// All contests of one number of samples and of workers. The whole network runs again and again, so that
/// weights and activations come from where they come from in use; each pass takes the next strategy of every
/// contest.
class Tournament {
 public:
  Tournament(const Plan& plan, int64_t samples, int threads, const Executor& executor)
      : plan_(plan),
        executor_(executor),
        bound_(plan, samples, threads, single_stage(plan, samples)),
        input_(static_cast<size_t>(samples * plan.input.size())) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (float& value : input_) value = normal(random);
    uint8_t* memory = block_.reserve(bound_.placement.bytes);
    for (const size_t offset : bound_.placement.offsets) run_.buffers.push_back(memory + offset);
    run_.buffers[kInputBuffer] = reinterpret_cast<uint8_t*>(input_.data());
    for (size_t i = 0; i < plan.outputs.size(); ++i) {
      const size_t buffer = kFirstOutputBuffer + i;
      outputs_.emplace_back(static_cast<size_t>(samples) * plan.buffer_bytes[buffer]);
      run_.buffers[buffer] = outputs_.back().data();
    }
  }
  Tournament(const Tournament&) = delete;
  Tournament& operator=(const Tournament&) = delete;

  void add(const TunableStep& tunable) {
    const auto same = [&](const Step& step) { return step.name == tunable.name && step.strategies; };
    const auto found = std::find_if(plan_.steps.begin(), plan_.steps.end(), same);
    if (found == plan_.steps.end()) throw Error("step " + quote(tunable.name) + " has no strategies");
    if (tunable.strategies.empty()) throw Error("step " + quote(tunable.name) + ": strategies are missing");
    Contest contest{.step = static_cast<size_t>(found - plan_.steps.begin()),
                    .name = tunable.name,
                    .names = tunable.strategies,
                    .works = {},
                    .seconds = {}};
    for (const std::string& name : contest.names) {
      contest.works.push_back(found->strategies->work(bound_.samples, bound_.threads, name));
    }
    contest.seconds.resize(contest.names.size());
    contests_.push_back(std::move(contest));
  }

  /// The first half finds the best of each contest. As the best of many it may have been lucky, so that in
  /// the second half it has to win against the usual one again.
  std::vector<TunedStep> decide(double seconds) {
    play(seconds / 2);
    bool decided = true;
    for (Contest& contest : contests_) {
      contest.reduce_to(contest.winner());
      decided = decided && contest.names.size() == 1;
    }
    if (!decided) play(seconds / 2);
    std::vector<TunedStep> tuned;
    for (const Contest& contest : contests_) {
      tuned.push_back({contest.name, bound_.samples, bound_.threads, contest.names[contest.winner()]});
    }
    return tuned;
  }

 private:
  void play(double seconds) {
    size_t passes = 0;
    for (const Contest& contest : contests_) passes = std::max(passes, contest.names.size());
    pass(0, false);
    const Clock::time_point begin = Clock::now();
    for (int round = 0; round < kMostRounds; ++round) {
      if (round >= kLeastRounds && seconds_since(begin) > seconds) break;
      for (size_t i = 0; i < passes; ++i) pass(round % 2 == 0 ? i : passes - 1 - i, true);
    }
  }

  /// Runs the network once, each contest with its strategy `index` if it has so many.
  void pass(size_t index, bool timed) {
    std::vector<const Work*> works;
    for (const Work& work : *bound_.passes.front().works) works.push_back(&work);
    std::vector<std::vector<double>*> times(works.size(), nullptr);
    for (Contest& contest : contests_) {
      if (index >= contest.names.size()) continue;
      works[contest.step] = &contest.works[index];
      if (timed) times[contest.step] = &contest.seconds[index];
    }
    for (size_t i = 0; i < works.size(); ++i) {
      const Clock::time_point begin = Clock::now();
      run(*works[i]);
      if (times[i] != nullptr) times[i]->push_back(seconds_since(begin));
    }
  }

  void run(const Work& work) {
    if (bound_.threads == 1) return work.run(run_, 0, work.items);
    Team team(std::span(&work, 1), run_, bound_.threads);
    executor_.parallel_for(bound_.threads, [&](int64_t begin, int64_t end) {
      for (int64_t worker = begin; worker < end; ++worker) team.work();
    });
    team.rethrow();
  }

  const Plan& plan_;
  const Executor& executor_;
  const BoundPlan bound_;
  std::vector<float> input_;
  std::vector<std::vector<uint8_t>> outputs_;
  Block block_;
  std::atomic<int64_t> nonfinite_ = 0;
  Run run_{.buffers = {}, .nonfinite_inputs = nonfinite_};
  std::vector<Contest> contests_;
};

}  // namespace

std::vector<TunedStep> tune(const Plan& plan, const std::vector<TunableStep>& steps, const Executor& executor,
                            double seconds) {
  std::map<std::pair<int64_t, int>, std::vector<const TunableStep*>> places;
  for (const TunableStep& step : steps) {
    if (step.samples < 1) throw Error("samples must be at least 1; got " + std::to_string(step.samples));
    if (step.threads != 1 && step.threads != executor.threads()) {
      throw Error("threads must be 1 or the executor's " + std::to_string(executor.threads()) + "; got " +
                  std::to_string(step.threads));
    }
    places[{step.samples, step.threads}].push_back(&step);
  }
  std::vector<TunedStep> tuned;
  for (const auto& [place, tunables] : places) {
    Tournament tournament(plan, place.first, place.second, executor);
    for (const TunableStep* tunable : tunables) tournament.add(*tunable);
    const auto decided = tournament.decide(seconds / static_cast<double>(places.size()));
    tuned.insert(tuned.end(), decided.begin(), decided.end());
  }
  return tuned;
}

}  // namespace ptqx::engine
