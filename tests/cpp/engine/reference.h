#pragma once

#include <string>
#include <vector>

#include "graph_builder.h"

namespace ptqx::engine::testing {

/// Runs a graph document for one sample, NCHW, by loops over kernels/arith.h. Shares no code with the
/// engine's own reading, planning and kernels.
std::vector<float> reference_run(const Graph& graph, const std::vector<float>& input);

/// The values of the nodes `names` of the same run.
std::vector<std::vector<float>> reference_values(const Graph& graph, const std::vector<float>& input,
                                                 const std::vector<std::string>& names);

}  // namespace ptqx::engine::testing
