#include "engine/worker_choice.h"

#include <algorithm>
#include <limits>

namespace ptqx::engine {
namespace {

/// The middle of the runs of a succession that count.
double median(std::vector<double> seconds) {
  const auto middle = seconds.begin() + std::ssize(seconds) / 2;
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

/// Of the least disturbed succession.
double fastest_succession(const std::vector<double>& seconds) {
  double fastest = std::numeric_limits<double>::infinity();
  for (size_t run = 0; run + WorkerChoice::kSuccession <= seconds.size(); run += WorkerChoice::kSuccession) {
    const double* first = seconds.data() + run;
    fastest = std::min(fastest, median({first + 1, first + WorkerChoice::kSuccession}));
  }
  return fastest;
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
  if (all_take_long()) {
    keep(candidates_.front().workers);
  } else if (std::all_of(candidates_.begin(), candidates_.end(), tried)) {
    choose();
  }
}

bool WorkerChoice::all_take_long() const {
  const std::vector<double>& seconds = candidates_.front().seconds;
  return seconds.size() >= kSuccession && fastest_succession(seconds) >= kLong;
}

void WorkerChoice::choose() {
  int best_workers = 0;
  double best = 0;
  for (auto candidate = candidates_.rbegin(); candidate != candidates_.rend(); ++candidate) {  // fewest first
    const double seconds = fastest_succession(candidate->seconds);
    if (candidate == candidates_.rbegin() || seconds < best * kWorthMore) {
      best = seconds;
      best_workers = candidate->workers;
    }
  }
  keep(best_workers);
}

void WorkerChoice::keep(int workers) {
  for (Candidate& candidate : candidates_) candidate.seconds.clear();
  trying_ = false;
  begun_ = 0;
  runs_between_ = workers == chosen_ ? 2 * runs_between_ : kRunsBetween;
  runs_left_ = runs_between_;
  chosen_ = workers;
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
