#include "engine/stages.h"

#include <algorithm>
#include <bit>
#include <map>
#include <numeric>
#include <utility>

namespace ptqx::engine {
namespace {

/// Of the activations that are alive at one time: what the second-level cache of most servers holds.
constexpr size_t kCacheBytes = size_t{1} << 20;

/// A weight that is read once for so many samples costs next to nothing: for eight, where weights stay in the
/// cache anyway. Winograd transforms weights in the time of some products, so late layers, a tile or two a
/// sample, want more of them; and a matrix unit multiplies eight times as fast as vectors do.
int64_t enough_samples(const Plan& plan) {
  size_t weights = 0;
  for (const Step& step : plan.steps) weights += step.bytes;
  return weights > kCacheBytes ? 64 : 8;
}

/// Bytes a sample of the buffers that are alive at each step.
std::vector<size_t> live_bytes(const Plan& plan) {
  std::vector<size_t> bytes(plan.steps.size(), 0);
  const std::vector<Lifetime> lifetimes = plan.lifetimes();
  for (size_t buffer = 0; buffer < lifetimes.size(); ++buffer) {
    if (plan.is_callers(static_cast<int>(buffer))) continue;
    for (int step = lifetimes[buffer].first_step; step <= lifetimes[buffer].last_step; ++step) {
      bytes[static_cast<size_t>(step)] += lifetimes[buffer].bytes;
    }
  }
  for (const Succession& s : plan.successions()) bytes[s.step] -= lifetimes[s.from].bytes;
  return bytes;
}

/// Samples that each step may take at a time, powers of two that never fall.
std::vector<int64_t> samples_at_a_time(const Plan& plan) {
  std::vector<int64_t> samples;
  for (const size_t bytes : live_bytes(plan)) {
    samples.push_back(
        static_cast<int64_t>(std::bit_floor(std::max(kCacheBytes / std::max(bytes, size_t{1}), size_t{1}))));
  }
  for (size_t step = samples.size(); step-- > 1;)
    samples[step - 1] = std::min(samples[step - 1], samples[step]);
  return samples;
}

/// Samples whose activations fit into the cache at every step.
int64_t samples_in_cache(const Plan& plan) {
  const size_t bytes = StagedPlacement(plan, single_stage(plan, 1), 1).bytes;
  return std::max(static_cast<int64_t>(kCacheBytes / std::max(bytes, size_t{1})), int64_t{1});
}

const Stage& stage_of(const std::vector<Stage>& stages, int step) {
  return *std::find_if(stages.begin(), stages.end(),
                       [&](const Stage& stage) { return static_cast<size_t>(step) < stage.end; });
}

std::shared_ptr<const std::vector<Work>> make_works(const Plan& plan, const Stage& stage, int64_t samples,
                                                    int threads) {
  std::vector<Work> works;
  for (size_t step = stage.begin; step < stage.end; ++step) {
    works.push_back(plan.work(plan.steps[step], samples, threads));
  }
  return std::make_shared<const std::vector<Work>>(std::move(works));
}

}  // namespace

int64_t largest_share(const Plan& plan) {
  if (plan.steps.empty()) return 1;
  return std::max(samples_in_cache(plan), std::min(samples_at_a_time(plan).back(), enough_samples(plan)));
}

std::vector<Stage> single_stage(const Plan& plan, int64_t samples) {
  return {{0, plan.steps.size(), samples}};
}

std::vector<Stage> stages_of(const Plan& plan, int64_t samples) {
  if (samples <= samples_in_cache(plan)) return single_stage(plan, samples);
  std::vector<Stage> stages;
  const std::vector<int64_t> at_a_time = samples_at_a_time(plan);
  for (size_t step = 0; step < at_a_time.size(); ++step) {
    const int64_t most = std::min(at_a_time[step], samples);
    if (stages.empty() || stages.back().samples != most) stages.push_back({step, step, most});
    stages.back().end = step + 1;
  }
  return stages;
}

StagedPlacement::StagedPlacement(const Plan& plan, const std::vector<Stage>& stages, int64_t samples) {
  std::vector<Lifetime> lifetimes = plan.lifetimes();
  for (Lifetime& buffer : lifetimes) {
    const bool used = buffer.first_step <= buffer.last_step;
    const Stage& from = used ? stage_of(stages, buffer.first_step) : stages.front();
    const Stage& to = used ? stage_of(stages, buffer.last_step) : stages.front();
    whole.push_back(&from != &to);
    buffer.bytes = buffer.bytes * static_cast<size_t>(whole.back() ? samples : from.samples) + plan.slack;
    if (!whole.back()) continue;
    // Every pass begins its stage anew.
    buffer.first_step = static_cast<int>(from.begin);
    buffer.last_step = static_cast<int>(to.end) - 1;
  }
  for (size_t buffer = 0; plan.is_callers(static_cast<int>(buffer)); ++buffer) {
    lifetimes[buffer].bytes = 0;
    whole[buffer] = true;
  }

  std::vector<size_t> founder(lifetimes.size());  // of a line of successors, which all lie where it does
  std::iota(founder.begin(), founder.end(), size_t{0});
  for (const Succession& s : plan.successions()) {
    if (whole[s.from] != whole[s.to]) continue;  // or a sample would have another place
    founder[s.to] = founder[s.from];
    Lifetime& all = lifetimes[founder[s.from]];
    all.first_step = std::min(all.first_step, lifetimes[s.to].first_step);
    all.last_step = std::max(all.last_step, lifetimes[s.to].last_step);
    lifetimes[s.to].bytes = 0;
  }
  static_cast<Placement&>(*this) = place(lifetimes);
  for (size_t buffer = 0; buffer < founder.size(); ++buffer) offsets[buffer] = offsets[founder[buffer]];
}

BoundPlan::BoundPlan(const Plan& plan, int64_t bound_samples, int bound_threads)
    : BoundPlan(plan, bound_samples, bound_threads,
                bound_threads == 1 ? stages_of(plan, bound_samples) : single_stage(plan, bound_samples)) {}

BoundPlan::BoundPlan(const Plan& plan, int64_t bound_samples, int bound_threads,
                     const std::vector<Stage>& stages)
    : samples(bound_samples), threads(bound_threads), placement(plan, stages, bound_samples) {
  for (const Stage& stage : stages) add_passes(plan, stage);
}

/// As equal as can be, so of two sizes at most.
void BoundPlan::add_passes(const Plan& plan, const Stage& stage) {
  std::map<int64_t, std::shared_ptr<const std::vector<Work>>> works_on;
  const int64_t count = stage.passes(samples);
  for (int64_t pass = 0; pass < count; ++pass) {
    const int64_t first = samples * pass / count;
    const int64_t taken = samples * (pass + 1) / count - first;
    auto& works = works_on[taken];
    if (works == nullptr) works = make_works(plan, stage, taken, threads);
    passes.push_back({stage.begin, first, taken, works});
    for (const Work& work : *works) scratch_bytes = std::max(scratch_bytes, work.scratch_bytes);
  }
}

}  // namespace ptqx::engine
