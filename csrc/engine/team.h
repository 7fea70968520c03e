#pragma once

// A sequence of works with whatever workers come. Within a work, items are claimed from an atomic counter;
// the next work begins when all items are done. So a sequence completes with any number of workers, one
// included: nobody waits for a worker, only for items that a worker has claimed.

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
  struct alignas(64) Progress {
    std::atomic<int64_t> claimed{0};
    alignas(64) std::atomic<int64_t> done{0};
  };

  bool take_part(const Work& work, Progress& progress);
  bool wait_for(const Work& work, const Progress& progress) const;

  std::span<const Work> works_;
  const Run& run_;
  const int threads_;
  std::unique_ptr<Progress[]> progress_;  // of each work
  std::atomic<bool> failed_{false};
  std::mutex mutex_;  // guards exception_
  std::exception_ptr exception_;
};

}  // namespace ptqx::engine
