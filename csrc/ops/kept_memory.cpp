#include "ops/kept_memory.h"

#include <ATen/EmptyTensor.h>
#include <ATen/ExpandUtils.h>
#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <list>
#include <mutex>
#include <optional>

namespace ptqx::ops {
namespace {

constexpr size_t kPages = size_t{64} << 10;  // a few of the system's
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kSmallest = 2 * kPages;         // below, malloc keeps memory itself
constexpr size_t kSmallestHuge = 2 * kHugePage;  // below, rounding up would cost much
constexpr size_t kMostBlocks = 256;

struct Block {
  void* address;
  size_t size;
};

size_t page_size(size_t bytes) { return bytes < kSmallestHuge ? kPages : kHugePage; }

Block new_block(size_t size) {
  void* address = std::aligned_alloc(page_size(size), size);
  TORCH_CHECK_WITH(OutOfMemoryError, address != nullptr, "no memory for ", size, " bytes");
  // Where the system declines, pages are small.
  if (page_size(size) == kHugePage) madvise(address, size, MADV_HUGEPAGE);
  return {address, size};
}

/// Blocks that no tensor uses, the latest used first: it may still be in a cache. A lock that is taken, by a
/// thread that a fork left behind for instance, is never waited for: the system then serves as if nothing
/// were kept.
class KeptBlocks {
 public:
  std::optional<Block> take(size_t size) {
    const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock) return std::nullopt;
    for (auto block = blocks_.begin(); block != blocks_.end(); ++block) {
      if (block->size < size || block->size > size + size / 8) continue;
      const Block found = *block;
      bytes_ -= found.size;
      blocks_.erase(block);
      return found;
    }
    return std::nullopt;
  }

  void keep(Block block) {
    const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock || block.size > kKeptBytes) return std::free(block.address);
    blocks_.push_front(block);
    bytes_ += block.size;
    while (bytes_ > kKeptBytes || blocks_.size() > kMostBlocks) {
      bytes_ -= blocks_.back().size;
      std::free(blocks_.back().address);
      blocks_.pop_back();
    }
  }

 private:
  std::mutex mutex_;
  std::list<Block> blocks_;
  size_t bytes_ = 0;
};

KeptBlocks& kept_blocks() {
  static KeptBlocks* blocks = new KeptBlocks;  // never destroyed: tensors may die after static objects
  return *blocks;
}

class KeptAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    const size_t page = page_size(bytes);
    const size_t size = (bytes + page - 1) / page * page;
    const std::optional<Block> kept = kept_blocks().take(size);
    const Block block = kept ? *kept : new_block(size);
    return {block.address, new Block(block), &release, c10::Device(c10::DeviceType::CPU)};
  }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }

 private:
  static void release(void* context) {
    const std::unique_ptr<Block> block(static_cast<Block*>(context));
    kept_blocks().keep(*block);
  }
};

}  // namespace

at::Tensor empty_strided_kept(at::IntArrayRef sizes, at::IntArrayRef strides, at::ScalarType dtype) {
  static KeptAllocator kept;
  const size_t bytes = static_cast<size_t>(c10::multiply_integers(sizes)) * c10::elementSize(dtype);
  c10::Allocator* allocator = bytes < kSmallest ? c10::GetCPUAllocator() : &kept;
  return at::Tensor(at::detail::empty_strided_generic(sizes, strides, allocator,
                                                      c10::DispatchKeySet(c10::DispatchKey::CPU), dtype));
}

at::Tensor empty_like_kept(const at::Tensor& like, at::ScalarType dtype) {
  const bool dense = like.is_non_overlapping_and_dense();
  const std::vector<int64_t> strides =
      dense ? like.strides().vec() : at::infer_dense_strides(like.sizes(), like.strides());
  return empty_strided_kept(like.sizes(), strides, dtype);
}

}  // namespace ptqx::ops
