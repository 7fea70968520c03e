#pragma once

// A sequence of works with whatever workers come. Every worker has a part of the items of a work, of which it
// claims some at a time, and then helps with the parts of others; the next work begins when all items are
// done. So a sequence completes with any number of workers, one included: nobody waits for a worker, only for
// items that a worker has claimed. And parts stay with workers from work to work, so that most of what one
// reads is what it wrote itself, in its own cache.

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <span>

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

  int64_t part_begin(const Work& work, int part) const { return work.items * part / threads_; }
  bool take_part(size_t index, int worker);
  bool run_part(size_t index, int part);
  bool wait_for(size_t index) const;

  std::span<const Work> works_;
  const Run& run_;
  const int threads_;
  std::atomic<int> workers_{0};         // that have come
  std::unique_ptr<Counter[]> claimed_;  // [works][threads]: items of a part
  std::unique_ptr<Counter[]> done_;     // [works]: items
  std::atomic<bool> failed_{false};
  std::mutex mutex_;  // guards exception_
  std::exception_ptr exception_;
};

}  // namespace ptqx::engine
