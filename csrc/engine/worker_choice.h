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
/// machine: so each number is tried, and the fastest is kept. What a run takes depends on the run before,
/// which left its values in the caches of those that took part and the others asleep: so each number is tried
/// some times in succession. That happens twice and the faster succession counts, because threads of whoever
/// ran before may still spin on a core. What else runs beside may have decided all the same, so they are
/// tried again later, less and less often as long as the choice stays. Runs that are long with all of them
/// are left alone: what is lost between cores is little beside, and trials with fewer would cost what they
/// take.
class WorkerChoice {
 public:
  /// All of them, and so on by halves down to 1.
  static std::vector<int> candidates(int threads);

  explicit WorkerChoice(int threads);

  /// How many to run with.
  int next();
  /// What a run with that many took.
  void record(int workers, double seconds);

  static constexpr size_t kSuccessions = 2;
  /// Runs of one number in succession. The first does not count.
  static constexpr size_t kSuccession = 5;
  /// Runs of one number until a choice.
  static constexpr size_t kTrials = kSuccessions * kSuccession;
  /// A run that is long, in seconds.
  static constexpr double kLong = 2e-3;
  /// More workers must be faster by a twentieth.
  static constexpr double kWorthMore = 0.95;
  /// Runs after a new choice until the next trials; then twice as many, and so on.
  static constexpr int64_t kRunsBetween = 100;

 private:
  struct Candidate {
    int workers;
    std::vector<double> seconds;
  };

  bool all_take_long() const;
  void choose();
  void keep(int workers);

  std::mutex mutex_;  // guards all that follows
  std::vector<Candidate> candidates_;
  bool trying_ = true;
  size_t begun_ = 0;  // trials since the last choice
  int chosen_ = 0;    // none yet
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
