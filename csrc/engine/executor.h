#pragma once

// How the engine gets its workers. The operators hand in one over at::parallel_for, programs without
// torch one over std::thread; kernels know nothing of either.

#include <cstdint>
#include <functional>
#include <memory>

namespace ptqx::engine {

class Executor {
 public:
  virtual ~Executor() = default;

  /// How many workers there may be; at least 1.
  virtual int threads() const = 0;

  /// Calls body(begin, end) on ranges that cover [0, count), each index once, from any number of
  /// workers, one included, and returns when all are done. An exception thrown by body is rethrown.
  virtual void parallel_for(int64_t count, const std::function<void(int64_t, int64_t)>& body) const = 0;
};

/// Runs everything on the calling thread.
class SerialExecutor final : public Executor {
 public:
  int threads() const override { return 1; }
  void parallel_for(int64_t count, const std::function<void(int64_t, int64_t)>& body) const override {
    if (count > 0) body(0, count);
  }
};

/// std::thread workers for programs without torch, kept until the executor is destroyed. Work is claimed
/// from an atomic counter, so a call completes with however many workers come, the caller alone included.
/// Calls from several threads, from inside a body, or in a forked child are safe: they run on their caller.
class ThreadExecutor final : public Executor {
 public:
  /// Throws std::invalid_argument if threads < 1.
  explicit ThreadExecutor(int threads);
  ~ThreadExecutor() override;
  ThreadExecutor(const ThreadExecutor&) = delete;
  ThreadExecutor& operator=(const ThreadExecutor&) = delete;

  int threads() const override;
  void parallel_for(int64_t count, const std::function<void(int64_t, int64_t)>& body) const override;

 private:
  class Pool;
  std::unique_ptr<Pool> pool_;
};

}  // namespace ptqx::engine
