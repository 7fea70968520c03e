#include "engine/arena.h"

#include <algorithm>
#include <limits>
#include <new>
#include <numeric>
#include <utility>

namespace ptqx::engine {
namespace {

size_t round_up(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

struct Extent {
  size_t begin, end;
};

/// The start of the smallest gap between `taken` extents that holds `bytes`, or the end of the last.
size_t smallest_gap(std::vector<Extent>& taken, size_t bytes) {
  std::sort(taken.begin(), taken.end(), [](const Extent& a, const Extent& b) { return a.begin < b.begin; });
  size_t best = 0, best_size = std::numeric_limits<size_t>::max(), end = 0;
  bool found = false;
  for (const Extent& extent : taken) {
    if (extent.begin > end && extent.begin - end >= bytes && extent.begin - end < best_size) {
      best = end;
      best_size = extent.begin - end;
      found = true;
    }
    end = std::max(end, extent.end);
  }
  return found ? best : end;
}

}  // namespace

Placement place(const std::vector<Lifetime>& buffers) {
  std::vector<size_t> order(buffers.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return buffers[a].bytes > buffers[b].bytes; });
  Placement placement{.offsets = std::vector<size_t>(buffers.size())};
  std::vector<size_t> placed;
  std::vector<Extent> taken;
  for (const size_t index : order) {
    const Lifetime& buffer = buffers[index];
    taken.clear();
    for (const size_t other : placed) {
      const Lifetime& neighbour = buffers[other];
      if (neighbour.first_step <= buffer.last_step && buffer.first_step <= neighbour.last_step) {
        const size_t begin = placement.offsets[other];
        taken.push_back({begin, begin + round_up(neighbour.bytes)});
      }
    }
    const size_t bytes = round_up(buffer.bytes);
    placement.offsets[index] = smallest_gap(taken, bytes);
    placement.bytes = std::max(placement.bytes, placement.offsets[index] + bytes);
    placed.push_back(index);
  }
  return placement;
}

void Block::Free::operator()(uint8_t* data) const { ::operator delete(data, std::align_val_t{kAlignment}); }

uint8_t* Block::reserve(size_t bytes) {
  if (bytes > bytes_) {
    data_.reset();
    bytes_ = 0;
    data_.reset(static_cast<uint8_t*>(::operator new(bytes, std::align_val_t{kAlignment})));
    bytes_ = bytes;
  }
  return data_.get();
}

std::unique_ptr<Block> BlockPool::take() {
  const std::lock_guard lock(mutex_);
  if (waiting_.empty()) return std::make_unique<Block>();
  const auto own = std::find_if(waiting_.rbegin(), waiting_.rend(), [](const Waiting& waiting) {
    return waiting.owner == std::this_thread::get_id();
  });
  if (own != waiting_.rend()) std::swap(*own, waiting_.back());
  std::unique_ptr<Block> block = std::move(waiting_.back().block);
  waiting_.pop_back();
  return block;
}

void BlockPool::give_back(std::unique_ptr<Block> block) noexcept {
  const std::lock_guard lock(mutex_);
  if (waiting_.size() < kept_) waiting_.push_back({std::move(block), std::this_thread::get_id()});
}

}  // namespace ptqx::engine
