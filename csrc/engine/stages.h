#pragma once

// In what portions a worker takes its share of a batch. Early steps have large activations and take few
// samples at a time, so that these stay in the cache; late ones have large weights and take many, so that a
// weight is read once for all of them.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/arena.h"
#include "engine/plan.h"

namespace ptqx::engine {

/// Steps [begin, end), which take at most `samples` samples at a time.
struct Stage {
  size_t begin, end;
  int64_t samples;

  int64_t passes(int64_t share) const { return (share + samples - 1) / samples; }
};

/// The most samples that a worker takes through all stages.
int64_t largest_share(const Plan& plan);

/// The stages of a share of `samples` samples.
std::vector<Stage> stages_of(const Plan& plan, int64_t samples);
/// All steps, with all samples at a time.
std::vector<Stage> single_stage(const Plan& plan, int64_t samples);

/// Where the buffers of a share lie; 0 and 1, the caller's, take no room.
struct StagedPlacement : Placement {
  StagedPlacement(const Plan& plan, const std::vector<Stage>& stages, int64_t samples);

  std::vector<bool> whole;  // a buffer goes from stage to stage, and so holds all samples of the share
};

/// Some steps on some samples of a share.
struct Pass {
  size_t first_step;
  int64_t first_sample;
  int64_t samples;
  std::shared_ptr<const std::vector<Work>> works;  // of consecutive steps
};

/// A plan made ready for a number of samples and of workers. One worker takes its share through stages;
/// several go through all steps together, in a single pass.
struct BoundPlan {
  BoundPlan(const Plan& plan, int64_t samples, int threads);
  BoundPlan(const Plan& plan, int64_t samples, int threads, const std::vector<Stage>& stages);

  int64_t samples;
  int threads;
  StagedPlacement placement;
  std::vector<Pass> passes;
  size_t scratch_bytes = 0;  // of every worker

 private:
  void add_passes(const Plan& plan, const Stage& stage);
};

}  // namespace ptqx::engine
