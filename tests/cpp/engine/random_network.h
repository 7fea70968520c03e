#pragma once

#include "graph_builder.h"

namespace ptqx::engine::testing {

/// A graph of 3 to 10 random nodes on codes, then a linear layer or global pooling to float32.
Graph random_integer_network(unsigned seed);

/// The same with float32 between dynamic layers.
Graph random_dynamic_network(unsigned seed);

/// One of both kinds that returns the values of inner nodes and its input beside its output, some of them
/// twice: {"tuple": [output, {"list": [inner, ...]}, {"dict": [["input", input], ["again", output]]}]}.
Graph random_network_of_several_outputs(unsigned seed);

}  // namespace ptqx::engine::testing
