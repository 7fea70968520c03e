#include "ops/engine_cache.h"

#include <mutex>

#include "engine/sha256.h"
#include "kernels/dispatch.h"
#include "ops/packed_weight.h"
#include "ops/pages.h"
#include "ops/tensor_cache.h"

namespace ptqx::ops {
namespace {

struct Built {
  std::string digest;
  std::shared_ptr<const engine::Engine> engine;
};

std::span<const uint8_t> bytes_of(const at::Tensor& program) {
  return {program.const_data_ptr<uint8_t>(), static_cast<size_t>(program.numel())};
}

std::string digest_of(const at::Tensor& program) {
  engine::Sha256 hash;
  const std::span<const uint8_t> bytes = bytes_of(program);
  hash.update(bytes.data(), bytes.size());
  return hash.hex_digest();
}

std::shared_ptr<const engine::Engine> build(const at::Tensor& program) {
  try {
    return std::make_shared<const engine::Engine>(engine::Engine::from_bytes(bytes_of(program)));
  } catch (const engine::Error& error) {
    TORCH_CHECK_VALUE(false, "program: ", error.what());
  }
}

/// The last programs seen.
class EngineCache {
 public:
  std::shared_ptr<const engine::Engine> find(const at::Tensor& program) {
    const kernels::Isa isa = kernels::isa_ceiling();  // weights are packed for it
    const TensorIdentity identity(program);
    if (const std::optional<Built> known = built_.find(identity, isa)) return known->engine;

    const std::lock_guard<std::mutex> lock(building_);  // one thread builds, the others find what it built
    const std::string digest = digest_of(program);
    const std::optional<Built> same = built_.find_if([&](kernels::Isa other, const Built& candidate) {
      return other == isa && candidate.digest == digest;
    });
    const Built built = same ? *same : Built{digest, build(program)};
    if (!same || identity.counts_writes()) built_.insert(identity, isa, built, 1);
    release_pages(bytes_of(program));  // the engine has its own copy of the weights
    return built.engine;
  }

 private:
  static constexpr size_t kCapacity = 32;
  std::mutex building_;
  TensorCache<kernels::Isa, Built> built_{kCapacity};
};

}  // namespace

std::shared_ptr<const engine::Engine> cached_engine(const at::Tensor& program) {
  static EngineCache cache;
  forget_dead_packed_weights();  // of the integer model that the engine was compiled from, when it is gone
  return cache.find(program);
}

}  // namespace ptqx::ops
