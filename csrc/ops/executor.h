#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "engine/executor.h"
#include "engine/parts.h"

namespace ptqx::ops {

/// torch's own threads, as many as torch.set_num_threads says; what each has to do is in parts.h.
class TorchExecutor final : public engine::Executor {
 public:
  int threads() const override { return at::in_parallel_region() ? 1 : std::max(at::get_num_threads(), 1); }

  void parallel_for(int64_t count, const std::function<void(int64_t, int64_t)>& body) const override {
    const int64_t workers = std::min<int64_t>(threads(), count);
    if (workers <= 1) {
      if (count > 0) body(0, count);
      return;
    }
    std::vector<engine::Claimed> claimed(static_cast<size_t>(workers));
    const engine::Parts parts(count, claimed);
    at::parallel_for(0, workers, 1, [&](int64_t first, int64_t last) {
      for (int64_t worker = first; worker < last; ++worker) {
        parts.take(static_cast<size_t>(worker), [&](int64_t begin, int64_t end) {
          body(begin, end);
          return true;
        });
      }
    });
  }
};

}  // namespace ptqx::ops
