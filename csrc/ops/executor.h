#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>

#include "engine/executor.h"

namespace ptqx::ops {

/// torch's own threads, as many as torch.set_num_threads says. Work is claimed from an atomic counter,
/// so a run completes with any number of workers, one included.
class TorchExecutor final : public engine::Executor {
 public:
  int threads() const override { return at::in_parallel_region() ? 1 : std::max(at::get_num_threads(), 1); }

  void parallel_for(int64_t count, const std::function<void(int64_t, int64_t)>& body) const override {
    const int64_t workers = std::min<int64_t>(threads(), count);
    if (workers <= 1) {
      if (count > 0) body(0, count);
      return;
    }
    // Small enough pieces that a late worker is not waited for long.
    const int64_t piece = std::max<int64_t>(count / (workers * 8), 1);
    std::atomic<int64_t> next{0};
    at::parallel_for(0, workers, 1, [&](int64_t first, int64_t last) {
      for (int64_t worker = first; worker < last; ++worker) {
        for (int64_t begin = next.fetch_add(piece); begin < count; begin = next.fetch_add(piece)) {
          body(begin, std::min(begin + piece, count));
        }
      }
    });
  }
};

}  // namespace ptqx::ops
