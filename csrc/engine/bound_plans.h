#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/stages.h"

namespace ptqx::engine {

/// Plans bound to the sizes seen last, latest first.
class BoundPlans {
 public:
  std::shared_ptr<const BoundPlan> find(const Plan& plan, int64_t samples, int threads) {
    const std::lock_guard lock(mutex_);
    const auto same = [&](const auto& bound) {
      return bound->samples == samples && bound->threads == threads;
    };
    const auto found = std::find_if(plans_.begin(), plans_.end(), same);
    if (found != plans_.end()) {
      std::rotate(plans_.begin(), found, found + 1);
    } else {
      plans_.insert(plans_.begin(), std::make_shared<const BoundPlan>(plan, samples, threads));
      if (plans_.size() > kKept) plans_.pop_back();
    }
    return plans_.front();
  }

  void clear() {
    const std::lock_guard lock(mutex_);
    plans_.clear();
  }

 private:
  static constexpr size_t kKept = 16;

  std::mutex mutex_;
  std::vector<std::shared_ptr<const BoundPlan>> plans_;
};

}  // namespace ptqx::engine
