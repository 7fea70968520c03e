#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace ptqx::engine {

/// How many of the workers take part in runs of few samples. Whatever one core wrote costs the next a
/// microsecond or so to read, which may be more than a small layer takes, and how much depends on the
/// machine: so each number is tried in turn, and the fastest is kept.
class WorkerChoice {
 public:
  /// All of them, and so on by halves down to 1.
  static std::vector<int> candidates(int threads);

  explicit WorkerChoice(int threads);

  /// 0 as long as there are numbers to be tried.
  int decided() const { return decided_.load(std::memory_order_relaxed); }
  /// How many to run with.
  int next();
  /// What a run with that many took. The first of each number does not count: caches are cold.
  void record(int workers, double seconds);

  static constexpr int kTrials = 7;
  /// More workers must be faster by a twentieth.
  static constexpr double kWorthMore = 0.95;

 private:
  struct Candidate {
    int workers;
    std::vector<double> seconds;
  };

  void decide();

  std::mutex mutex_;  // guards the candidates
  std::vector<Candidate> candidates_;
  size_t next_ = 0;
  std::atomic<int> decided_{0};
};

/// One for every number of samples and of workers that there was.
class WorkerChoices {
 public:
  std::shared_ptr<WorkerChoice> find(int64_t samples, int threads);
  void clear();

 private:
  std::mutex mutex_;
  std::map<std::pair<int64_t, int>, std::shared_ptr<WorkerChoice>> choices_;
};

}  // namespace ptqx::engine
