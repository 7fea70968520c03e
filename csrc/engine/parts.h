#pragma once

// Items shared out among workers that come or do not come. Each has a part of the items, of which it claims
// some at a time, and then helps with the parts of others. So all are done with any number of workers, one
// included, and parts stay with workers from work to work: most of what one reads is what it wrote itself, in
// its own cache.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <span>

namespace ptqx::engine {

/// Of one part: items that somebody has taken.
struct alignas(64) Claimed {
  std::atomic<int64_t> items{0};
};

class Parts {
 public:
  /// Items [0, count), in one part for each of `claimed`.
  Parts(int64_t count, std::span<Claimed> claimed) : count_(count), claimed_(claimed) {}

  /// Calls body(begin, end) until nothing is left to claim, from the part of `worker` on. False where body
  /// returned it, and then at once.
  template <class Body>
  bool take(size_t worker, const Body& body) const {
    for (size_t i = 0; i < claimed_.size(); ++i) {
      if (!take_part((worker + i) % claimed_.size(), body)) return false;
    }
    return true;
  }

 private:
  static constexpr int64_t kClaims = 8;  // of a part

  int64_t part_begin(size_t part) const {
    return count_ * static_cast<int64_t>(part) / static_cast<int64_t>(claimed_.size());
  }

  template <class Body>
  bool take_part(size_t part, const Body& body) const {
    const int64_t first = part_begin(part), size = part_begin(part + 1) - first;
    const int64_t claim = std::max<int64_t>(size / kClaims, 1);
    std::atomic<int64_t>& claimed = claimed_[part].items;
    while (claimed.load(std::memory_order_relaxed) < size) {
      const int64_t begin = claimed.fetch_add(claim, std::memory_order_relaxed);
      if (begin >= size) return true;
      if (!body(first + begin, first + std::min(begin + claim, size))) return false;
    }
    return true;
  }

  int64_t count_;
  std::span<Claimed> claimed_;
};

}  // namespace ptqx::engine
