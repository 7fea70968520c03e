#include "engine/team.h"

#include <algorithm>
#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ptqx::engine {
namespace {

constexpr int64_t kClaims = 8;  // of a part
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
      claimed_(std::make_unique<Counter[]>(works.size() * static_cast<size_t>(threads))),
      done_(std::make_unique<Counter[]>(works.size())) {}

void Team::work() noexcept {
  const int worker = workers_.fetch_add(1, std::memory_order_relaxed) % threads_;
  for (size_t i = 0; i < works_.size(); ++i) {
    if (!take_part(i, worker) || !wait_for(i)) return;
  }
}

/// Claims and runs items until none is left, those of the worker's own part first. Returns whether all is
/// well.
bool Team::take_part(size_t index, int worker) {
  for (int i = 0; i < threads_; ++i) {
    if (!run_part(index, (worker + i) % threads_)) return false;
  }
  return true;
}

bool Team::run_part(size_t index, int part) {
  const Work& work = works_[index];
  const int64_t first = part_begin(work, part), size = part_begin(work, part + 1) - first;
  const int64_t claim = std::max<int64_t>(size / kClaims, 1);
  std::atomic<int64_t>& claimed =
      claimed_[index * static_cast<size_t>(threads_) + static_cast<size_t>(part)].value;
  while (claimed.load(std::memory_order_relaxed) < size) {
    const int64_t begin = claimed.fetch_add(claim, std::memory_order_relaxed);
    if (begin >= size) return true;
    if (failed_.load(std::memory_order_relaxed)) return false;
    const int64_t end = std::min(begin + claim, size);
    try {
      work.run(run_, first + begin, first + end);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!exception_) exception_ = std::current_exception();
      failed_.store(true, std::memory_order_relaxed);
      return false;
    }
    done_[index].value.fetch_add(end - begin, std::memory_order_acq_rel);
  }
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
