#include "engine/executor.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace ptqx::engine {
namespace {

using Body = std::function<void(int64_t, int64_t)>;

constexpr int64_t kClaimsPerThread = 16;
// Layers follow one another within microseconds; a worker that sleeps takes longer than that to wake.
constexpr std::chrono::microseconds kSpin{50};

thread_local bool inside_body = false;

/// Marks the calling thread while it runs bodies, so that nested calls stay on it.
class InsideBody {
 public:
  InsideBody() { inside_body = true; }
  ~InsideBody() { inside_body = false; }
  InsideBody(const InsideBody&) = delete;
  InsideBody& operator=(const InsideBody&) = delete;
};

/// One parallel_for. Lives on its caller's stack.
class Job {
 public:
  Job(int64_t count, int64_t grain, const Body& body) : count_(count), grain_(grain), body_(body) {}

  /// Claims and runs ranges until none is left.
  void work() noexcept {
    const InsideBody mark;
    for (;;) {
      const int64_t begin = next_.fetch_add(grain_, std::memory_order_relaxed);
      if (begin >= count_) return;
      try {
        body_(begin, std::min(begin + grain_, count_));
      } catch (...) {
        next_.store(count_, std::memory_order_relaxed);
        const std::lock_guard lock(mutex_);
        if (!exception_) exception_ = std::current_exception();
      }
    }
  }

  void rethrow() const {
    if (exception_) std::rethrow_exception(exception_);
  }

 private:
  const int64_t count_, grain_;
  const Body& body_;
  std::atomic<int64_t> next_{0};
  std::mutex mutex_;
  std::exception_ptr exception_;
};

}  // namespace

class ThreadExecutor::Pool {
 public:
  explicit Pool(int threads) : threads_(threads), process_(getpid()) {
    try {
      for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { serve(); });
    } catch (const std::system_error&) {
      // The system has no more threads; fewer workers do the same work.
    }
  }

  ~Pool() {
    if (process_ != getpid()) {  // a forked child has no workers to join
      for (std::thread& worker : workers_) worker.detach();
      return;
    }
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      posted_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  int threads() const { return threads_; }

  void run(int64_t count, const Body& body) {
    if (count <= 0) return;
    std::unique_lock caller(caller_, std::defer_lock);
    if (count == 1 || threads_ == 1 || inside_body || process_ != getpid() || !caller.try_lock()) {
      body(0, count);
      return;
    }
    Job job(count, std::max<int64_t>(1, count / (threads_ * kClaimsPerThread)), body);
    post(&job);
    wake_.notify_all();
    job.work();
    withdraw();
    job.rethrow();
  }

 private:
  void post(Job* job) {
    const std::lock_guard lock(mutex_);
    job_ = job;
    posted_.fetch_add(1, std::memory_order_release);
  }

  /// No worker may join the job any more; waits for those that have.
  void withdraw() {
    std::unique_lock lock(mutex_);
    job_ = nullptr;
    idle_.wait(lock, [this] { return joined_ == 0; });
  }

  void serve() {
    uint64_t seen = 0;
    for (;;) {
      spin_until_posted(seen);
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return posted_.load(std::memory_order_relaxed) != seen; });
      seen = posted_.load(std::memory_order_relaxed);
      if (stopping_) return;
      if (job_ == nullptr) continue;
      Job* job = job_;
      ++joined_;
      lock.unlock();
      job->work();
      lock.lock();
      if (--joined_ == 0) idle_.notify_one();
    }
  }

  void spin_until_posted(uint64_t seen) const {
    const auto deadline = std::chrono::steady_clock::now() + kSpin;
    while (posted_.load(std::memory_order_acquire) == seen && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::yield();
    }
  }

  const int threads_;
  const pid_t process_;
  std::mutex caller_;  // held by the one call that has the workers
  std::mutex mutex_;   // guards job_, joined_, stopping_ and writes to posted_
  std::condition_variable wake_, idle_;
  Job* job_ = nullptr;
  int joined_ = 0;
  bool stopping_ = false;
  std::atomic<uint64_t> posted_{0};
  std::vector<std::thread> workers_;
};

ThreadExecutor::ThreadExecutor(int threads) {
  if (threads < 1)
    throw std::invalid_argument("threads: expected at least 1, got " + std::to_string(threads));
  pool_ = std::make_unique<Pool>(threads);
}
ThreadExecutor::~ThreadExecutor() = default;

int ThreadExecutor::threads() const { return pool_->threads(); }

void ThreadExecutor::parallel_for(int64_t count, const Body& body) const { pool_->run(count, body); }

}  // namespace ptqx::engine
