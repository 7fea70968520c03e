#pragma once

// Finds by measuring which strategies of a plan's steps are the fastest. Private to the engine.

#include <vector>

#include "engine/executor.h"
#include "engine/plan.h"
#include "engine/tuning.h"

namespace ptqx::engine {

/// For each step one of its strategies: the first, unless another was clearly faster. Steps are timed in
/// their places in the network, about `seconds` long in all. Throws Error if a step is none of the plan's or
/// asks for a number of workers that is neither 1 nor the executor's.
std::vector<TunedStep> tune(const Plan& plan, const std::vector<TunableStep>& steps, const Executor& executor,
                            double seconds);

}  // namespace ptqx::engine
