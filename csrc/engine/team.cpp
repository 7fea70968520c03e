#include "engine/team.h"

#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ptqx::engine {
namespace {

// Items take microseconds; who waits longer than that shares the core with whom it waits for.
constexpr int kSpins = 2000;

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

}  // namespace

Team::Team(std::span<const Work> works, const Run& run, int threads)
    : works_(works),
      run_(run),
      threads_(threads),
      claimed_(std::make_unique<Claimed[]>(works.size() * static_cast<size_t>(threads))),
      done_(std::make_unique<Counter[]>(works.size())) {}

void Team::work() noexcept {
  const int worker = workers_.fetch_add(1, std::memory_order_relaxed) % threads_;
  for (size_t i = 0; i < works_.size(); ++i) {
    if (!take_part(i, worker) || !wait_for(i)) return;
  }
}

/// Runs items until none is left to claim. Returns whether all is well.
bool Team::take_part(size_t index, int worker) {
  const auto threads = static_cast<size_t>(threads_);
  const Parts parts(works_[index].items, {&claimed_[index * threads], threads});
  return parts.take(static_cast<size_t>(worker),
                    [&](int64_t begin, int64_t end) { return run_items(index, begin, end); });
}

bool Team::run_items(size_t index, int64_t begin, int64_t end) noexcept {
  if (failed_.load(std::memory_order_relaxed)) return false;
  try {
    works_[index].run(run_, begin, end);
  } catch (...) {
    const std::lock_guard lock(mutex_);
    if (!exception_) exception_ = std::current_exception();
    failed_.store(true, std::memory_order_relaxed);
    return false;
  }
  done_[index].value.fetch_add(end - begin, std::memory_order_acq_rel);
  return true;
}

bool Team::wait_for(size_t index) const {
  const std::atomic<int64_t>& done = done_[index].value;
  for (int spins = 0; done.load(std::memory_order_acquire) < works_[index].items; ++spins) {
    if (failed_.load(std::memory_order_relaxed)) return false;
    if (spins < kSpins) {
      relax();
    } else {
      std::this_thread::yield();
    }
  }
  return true;
}

}  // namespace ptqx::engine
