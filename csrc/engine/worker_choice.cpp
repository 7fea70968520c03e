#include "engine/worker_choice.h"

#include <algorithm>

namespace ptqx::engine {
namespace {

/// Of the runs that count.
double median(const std::vector<double>& seconds) {
  std::vector<double> values;
  for (size_t run = 0; run < seconds.size(); ++run) {
    if (run % WorkerChoice::kSuccession != 0) values.push_back(seconds[run]);
  }
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

std::vector<int> WorkerChoice::candidates(int threads) {
  std::vector<int> numbers;
  for (int workers = threads; workers > 1; workers = (workers + 1) / 2) numbers.push_back(workers);
  numbers.push_back(1);
  return numbers;
}

WorkerChoice::WorkerChoice(int threads) {
  for (const int workers : candidates(threads)) candidates_.push_back({workers, {}});
}

int WorkerChoice::next() {
  const std::lock_guard lock(mutex_);
  if (candidates_.size() == 1) return 1;
  if (!trying_ && --runs_left_ >= 0) return chosen_;
  trying_ = true;
  return candidates_[begun_++ / kSuccession % candidates_.size()].workers;
}

void WorkerChoice::record(int workers, double seconds) {
  const std::lock_guard lock(mutex_);
  if (!trying_) return;
  for (Candidate& candidate : candidates_) {
    if (candidate.workers == workers) candidate.seconds.push_back(seconds);
  }
  const auto tried = [](const Candidate& candidate) { return candidate.seconds.size() >= kTrials; };
  if (std::all_of(candidates_.begin(), candidates_.end(), tried)) choose();
}

void WorkerChoice::choose() {
  double best = 0;
  for (auto candidate = candidates_.rbegin(); candidate != candidates_.rend(); ++candidate) {  // fewest first
    const double seconds = median(candidate->seconds);
    if (candidate == candidates_.rbegin() || seconds < best * kWorthMore) {
      best = seconds;
      chosen_ = candidate->workers;
    }
    candidate->seconds.clear();
  }
  trying_ = false;
  begun_ = 0;
  runs_left_ = runs_between_;
  runs_between_ *= 2;
}

std::shared_ptr<WorkerChoice> WorkerChoices::find(int64_t samples, int threads) {
  const std::lock_guard lock(mutex_);
  auto& choice = choices_[{samples, threads}];
  if (choice == nullptr) choice = std::make_shared<WorkerChoice>(threads);
  return choice;
}

void WorkerChoices::clear() {
  const std::lock_guard lock(mutex_);
  choices_.clear();
}

}  // namespace ptqx::engine
