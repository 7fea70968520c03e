#include "engine/team.h"

#include <algorithm>
#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ptqx::engine {
namespace {

constexpr int64_t kClaimsPerThread = 8;
// Items take microseconds; who waits longer than that shares the core with whom it waits for.
constexpr int kSpins = 2000;

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

}  // namespace

Team::Team(std::span<const Work> works, const Run& run, int threads)
    : works_(works), run_(run), threads_(threads), progress_(std::make_unique<Progress[]>(works.size())) {}

void Team::work() noexcept {
  for (size_t i = 0; i < works_.size(); ++i) {
    if (!take_part(works_[i], progress_[i]) || !wait_for(works_[i], progress_[i])) return;
  }
}

/// Claims and runs items until none is left. Returns whether all is well.
bool Team::take_part(const Work& work, Progress& progress) {
  const int64_t claim = std::max<int64_t>(work.items / (threads_ * kClaimsPerThread), 1);
  for (;;) {
    const int64_t begin = progress.claimed.fetch_add(claim, std::memory_order_relaxed);
    if (begin >= work.items) return true;
    if (failed_.load(std::memory_order_relaxed)) return false;
    const int64_t end = std::min(begin + claim, work.items);
    try {
      work.run(run_, begin, end);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!exception_) exception_ = std::current_exception();
      failed_.store(true, std::memory_order_relaxed);
      return false;
    }
    progress.done.fetch_add(end - begin, std::memory_order_acq_rel);
  }
}

bool Team::wait_for(const Work& work, const Progress& progress) const {
  for (int spins = 0; progress.done.load(std::memory_order_acquire) < work.items; ++spins) {
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
