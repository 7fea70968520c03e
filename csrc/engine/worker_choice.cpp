#include "engine/worker_choice.h"

#include <algorithm>

namespace ptqx::engine {
namespace {

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
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
  if (candidates_.size() == 1) decide();
}

int WorkerChoice::next() {
  if (const int workers = decided()) return workers;
  const std::lock_guard lock(mutex_);
  next_ = (next_ + 1) % candidates_.size();
  return candidates_[(next_ + candidates_.size() - 1) % candidates_.size()].workers;
}

void WorkerChoice::record(int workers, double seconds) {
  if (decided()) return;
  const std::lock_guard lock(mutex_);
  for (Candidate& candidate : candidates_) {
    if (candidate.workers == workers) candidate.seconds.push_back(seconds);
  }
  const auto tried = [](const Candidate& candidate) { return candidate.seconds.size() > kTrials; };
  if (std::all_of(candidates_.begin(), candidates_.end(), tried)) decide();
}

void WorkerChoice::decide() {
  // From the fewest up.
  double best = 0;
  for (auto candidate = candidates_.rbegin(); candidate != candidates_.rend(); ++candidate) {
    if (candidates_.size() == 1) return decided_.store(candidate->workers, std::memory_order_relaxed);
    const double seconds = median({candidate->seconds.begin() + 1, candidate->seconds.end()});
    if (candidate == candidates_.rbegin() || seconds < best * kWorthMore) {
      best = seconds;
      decided_.store(candidate->workers, std::memory_order_relaxed);
    }
  }
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
