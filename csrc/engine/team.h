#pragma once

// A sequence of works with whatever workers come. The items of a work are shared out (parts.h); the next work
// begins when all are done. So a sequence completes with any number of workers, one included: nobody waits
// for a worker, only for items that a worker has claimed.

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <span>

#include "engine/parts.h"
#include "engine/step.h"

namespace ptqx::engine {

class Team {
 public:
  /// `threads` is how many workers may come; claims are made small enough for so many.
  Team(std::span<const Work> works, const Run& run, int threads);

  /// Takes part until everything is done. Called once by each worker, from any number of threads.
  void work() noexcept;

  /// To be called when all workers have returned.
  void rethrow() const {
    if (exception_) std::rethrow_exception(exception_);
  }

 private:
  struct alignas(64) Counter {
    std::atomic<int64_t> value{0};
  };

  bool take_part(size_t index, int worker);
  bool run_items(size_t index, int64_t begin, int64_t end) noexcept;
  bool wait_for(size_t index) const;

  std::span<const Work> works_;
  const Run& run_;
  const int threads_;
  std::atomic<int> workers_{0};         // that have come
  std::unique_ptr<Claimed[]> claimed_;  // [works][threads]
  std::unique_ptr<Counter[]> done_;     // [works]: items
  std::atomic<bool> failed_{false};
  std::mutex mutex_;  // guards exception_
  std::exception_ptr exception_;
};

}  // namespace ptqx::engine
