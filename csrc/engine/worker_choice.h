#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace ptqx::engine {

/// How many of the workers take part in runs of few samples. Whatever one core wrote costs the next a
/// microsecond or so to read, which may be more than a small layer takes, and how much depends on the
/// machine: so each number is tried in turn, and the fastest is kept. What else runs beside may have decided
/// that, so it is tried again later, and less and less often.
class WorkerChoice {
 public:
  /// All of them, and so on by halves down to 1.
  static std::vector<int> candidates(int threads);

  explicit WorkerChoice(int threads);

  /// How many to run with.
  int next();
  /// What a run with that many took. The first of each number does not count: caches are cold.
  void record(int workers, double seconds);

  static constexpr size_t kTrials = 7;
  /// More workers must be faster by a twentieth.
  static constexpr double kWorthMore = 0.95;
  /// Runs after the first choice until the next trials; then ten times as many, and so on.
  static constexpr int64_t kRunsBetween = 100;

 private:
  struct Candidate {
    int workers;
    std::vector<double> seconds;
  };

  void choose();

  std::mutex mutex_;  // guards all that follows
  std::vector<Candidate> candidates_;
  size_t next_ = 0;  // candidate
  bool trying_ = true;
  int chosen_ = 1;
  int64_t runs_between_ = kRunsBetween, runs_left_ = 0;
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
