#pragma once

// Memory of one run: where each buffer lies, and a block to hold them.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace ptqx::engine {

inline constexpr size_t kAlignment = 64;

/// A stretch of memory that is alive from one step to another, both included.
struct Lifetime {
  size_t bytes;
  int first_step, last_step;
};

struct Placement {
  std::vector<size_t> offsets;  // of each buffer, multiples of kAlignment
  size_t bytes = 0;             // of all
};

/// Places buffers so that those alive at the same step do not overlap: largest first, each in the
/// smallest gap that holds it (Pisarchyk and Lee 2020, greedy by size).
Placement place(const std::vector<Lifetime>& buffers);

/// An aligned block that grows and never shrinks. Its contents are lost when it grows.
class Block {
 public:
  uint8_t* reserve(size_t bytes);
  size_t bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(uint8_t* data) const;
  };
  std::unique_ptr<uint8_t, Free> data_;
  size_t bytes_ = 0;
};

/// Blocks for callers that run at the same time: each takes one and gives it back, and gets the one again
/// that it had, which its core's cache may still hold. At most `kept` blocks wait for reuse.
class BlockPool {
 public:
  explicit BlockPool(size_t kept) : kept_(kept) { waiting_.reserve(kept); }

  std::unique_ptr<Block> take();
  void give_back(std::unique_ptr<Block> block) noexcept;

 private:
  struct Waiting {
    std::unique_ptr<Block> block;
    std::thread::id owner;  // who gave it back
  };

  size_t kept_;
  std::mutex mutex_;
  std::vector<Waiting> waiting_;
};

/// A block that returns to its pool.
class BlockLease {
 public:
  explicit BlockLease(BlockPool& pool) : pool_(pool), block_(pool.take()) {}
  ~BlockLease() { pool_.give_back(std::move(block_)); }
  BlockLease(const BlockLease&) = delete;
  BlockLease& operator=(const BlockLease&) = delete;
  Block& operator*() const { return *block_; }

 private:
  BlockPool& pool_;
  std::unique_ptr<Block> block_;
};

}  // namespace ptqx::engine
