#include "ops/kept_memory.h"

#include <ATen/EmptyTensor.h>
#include <ATen/ExpandUtils.h>
#include <ATen/ops/empty_like.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <list>
#include <mutex>
#include <optional>

namespace ptqx::ops {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kSmallest = 2 * kHugePage;  // below, malloc keeps memory itself and rounding up costs much

struct Block {
  void* address;
  size_t size;
};

Block new_block(size_t size) {
  void* address = std::aligned_alloc(kHugePage, size);
  TORCH_CHECK_WITH(OutOfMemoryError, address != nullptr, "no memory for ", size, " bytes");
  madvise(address, size, MADV_HUGEPAGE);  // where the system declines, pages are small
  return {address, size};
}

/// Blocks that no tensor uses, oldest first. A lock that is taken, by a thread that a fork left behind for
/// instance, is never waited for: the system then serves as if nothing were kept.
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
    blocks_.push_back(block);
    bytes_ += block.size;
    while (bytes_ > kKeptBytes) {
      bytes_ -= blocks_.front().size;
      std::free(blocks_.front().address);
      blocks_.pop_front();
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
    const size_t size = (bytes + kHugePage - 1) / kHugePage * kHugePage;
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

at::Tensor empty_like_kept(const at::Tensor& like, at::ScalarType dtype) {
  if (static_cast<size_t>(like.numel()) * c10::elementSize(dtype) < kSmallest) {
    return at::empty_like(like, like.options().dtype(dtype));
  }
  static KeptAllocator allocator;
  const bool dense = like.is_non_overlapping_and_dense();
  const std::vector<int64_t> strides =
      dense ? like.strides().vec() : at::infer_dense_strides(like.sizes(), like.strides());
  return at::Tensor(at::detail::empty_strided_generic(like.sizes(), strides, &allocator,
                                                      c10::DispatchKeySet(c10::DispatchKey::CPU), dtype));
}

}  // namespace ptqx::ops
