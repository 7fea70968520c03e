// Deterministic mutations of good files: each must be refused with an Error or make an engine that runs.

#include <gtest/gtest.h>

#include <functional>

#include "engine/engine.h"
#include "random_network.h"

namespace ptqx::engine {
namespace {

using nlohmann::json;
using testing::Graph;
using testing::Tensor;

constexpr size_t kLargestRun = size_t{1} << 20;  // bytes of activations; larger ones are only planned

/// Returns whether the bytes were accepted.
bool load_and_run(const std::vector<uint8_t>& bytes) {
  try {
    // An exact copy on the heap, so that the sanitizer sees a byte too far.
    const Engine engine = Engine::from_bytes(std::vector<uint8_t>(bytes));
    if (engine.arena_bytes(1) > kLargestRun || engine.input_size() > (1 << 16)) return true;
    const std::vector<float> input(static_cast<size_t>(engine.input_size()), 0.5F);
    std::vector<std::vector<float>> outputs;
    std::vector<float*> places;
    for (const OutputInfo& output : engine.outputs()) {
      if (output.size > (1 << 16)) return true;
      outputs.emplace_back(static_cast<size_t>(output.size));
      places.push_back(outputs.back().data());
    }
    engine.run(input.data(), 1, places, SerialExecutor());
    return true;
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    EXPECT_LT(std::string(error.what()).size(), 600U) << error.what();
    return false;
  }
}

class Mutator {
 public:
  explicit Mutator(unsigned seed) : random_(seed) {}

  size_t below(size_t limit) { return std::uniform_int_distribution<size_t>(0, limit - 1)(random_); }

  void bytes(std::vector<uint8_t>& data) {
    if (data.empty()) return;
    switch (below(5)) {
      case 0:
        data.resize(below(data.size()));
        break;
      case 1:
        data[below(data.size())] = static_cast<uint8_t>(below(256));
        break;
      case 2:
        data[below(std::min(data.size(), size_t{8}))] ^= static_cast<uint8_t>(1U << below(8));
        break;
      case 3: {  // a piece of it again
        const size_t begin = below(data.size());
        const std::vector<uint8_t> piece(
            data.begin() + static_cast<std::ptrdiff_t>(begin),
            data.begin() + static_cast<std::ptrdiff_t>(begin + std::min(data.size() - begin, size_t{64})));
        data.insert(data.begin() + static_cast<std::ptrdiff_t>(below(data.size())), piece.begin(),
                    piece.end());
        break;
      }
      default:
        for (size_t i = 0; i < 4; ++i) data[below(data.size())] ^= static_cast<uint8_t>(1U << below(8));
    }
  }

  /// Replaces or removes one value somewhere in the document.
  void document(json& root) {
    json* value = &root;
    json* parent = nullptr;
    std::string key;
    while (value->is_structured() && !value->empty() && below(8) != 0) {
      parent = value;
      auto child = value->begin();
      std::advance(child, static_cast<std::ptrdiff_t>(below(value->size())));
      if (parent->is_object()) key = child.key();
      value = &*child;
    }
    if (parent != nullptr && parent->is_object() && below(8) == 0) {
      parent->erase(key);
    } else if (value->is_number_integer() && below(2) == 0) {
      *value = value->get<int64_t>() + static_cast<int64_t>(below(7)) - 3;
    } else {
      *value = replacement();
    }
  }

  void tensor(Graph& graph) {
    auto entry = graph.tensors.begin();
    std::advance(entry, static_cast<std::ptrdiff_t>(below(graph.tensors.size())));
    Tensor& tensor = entry->second;
    switch (below(4)) {
      case 0:
        graph.tensors.erase(entry);
        break;
      case 1:
        tensor = Tensor::of<uint8_t>(tensor.dtype, {0}, {});
        break;
      case 2:
        tensor.shape = {static_cast<int64_t>(tensor.data.size() / dtype_size(tensor.dtype))};
        break;
      default:
        if (!tensor.data.empty()) tensor.data[below(tensor.data.size())] = static_cast<uint8_t>(below(256));
    }
  }

 private:
  json replacement() {
    const json values[] = {0,
                           1,
                           2,
                           3,
                           255,
                           -1,
                           (1 << 20) - 1,
                           1 << 20,
                           int64_t{1} << 31,
                           INT64_MAX,
                           INT64_MIN,
                           UINT64_MAX,
                           1e308,
                           0.5,
                           "inf",
                           "n1",
                           "n3",
                           "uint8",
                           "float32",
                           nullptr,
                           true,
                           "",
                           json::array(),
                           json::object(),
                           {1, 1},
                           {0, 0},
                           {7, 7},
                           {1, 1, 1, 1},
                           "flatten",
                           "conv2d",
                           "linear",
                           "add",
                           "mul",
                           "cat"};
    return values[below(std::size(values))];
  }

  std::mt19937 random_;
};

TEST(Fuzz, mutated_bytes_are_refused) {
  Mutator mutator(1);
  for (unsigned i = 0; i < 2000; ++i) {
    const std::vector<uint8_t> bytes = testing::random_integer_network(i % 10).bytes();
    std::vector<uint8_t> mutated = bytes;
    mutator.bytes(mutated);
    // Padding of the header and the case of an escape may change without changing what the file says.
    if (load_and_run(mutated) && mutated != bytes) {
      EXPECT_EQ(Container::view(mutated).graph(), Container::view(bytes).graph()) << "mutation " << i;
    }
  }
}

/// Mutations behind a valid checksum, so that they reach the graph's reader and the planner.
void fuzz_graphs(unsigned seed, Graph (*make)(unsigned),
                 const std::function<void(Mutator&, Graph&)>& mutate) {
  Mutator mutator(seed);
  std::vector<Graph> graphs;
  for (unsigned i = 0; i < 50; ++i) graphs.push_back(make(i));
  int accepted = 0;
  constexpr int kCases = 2000;
  for (int i = 0; i < kCases; ++i) {
    Graph graph = graphs[static_cast<size_t>(i) % graphs.size()];
    mutate(mutator, graph);
    accepted += load_and_run(graph.bytes()) ? 1 : 0;
  }
  // Otherwise the mutations would be too crude or too weak to test anything.
  EXPECT_GT(accepted, kCases / 100);
  EXPECT_LT(accepted, kCases * 99 / 100);
}

TEST(Fuzz, mutated_integer_documents_are_refused_or_run) {
  fuzz_graphs(2, testing::random_integer_network,
              [](Mutator& mutator, Graph& graph) { mutator.document(graph.document); });
}

TEST(Fuzz, mutated_dynamic_documents_are_refused_or_run) {
  fuzz_graphs(3, testing::random_dynamic_network,
              [](Mutator& mutator, Graph& graph) { mutator.document(graph.document); });
}

TEST(Fuzz, mutated_documents_of_several_outputs_are_refused_or_run) {
  fuzz_graphs(6, testing::random_network_of_several_outputs,
              [](Mutator& mutator, Graph& graph) { mutator.document(graph.document); });
}

TEST(Fuzz, mutated_tensors_are_refused_or_run) {
  fuzz_graphs(4, testing::random_integer_network,
              [](Mutator& mutator, Graph& graph) { mutator.tensor(graph); });
}

TEST(Fuzz, mutated_graph_text_is_refused_or_runs) {
  Mutator mutator(5);
  for (unsigned i = 0; i < 1000; ++i) {
    const Graph graph = testing::random_integer_network(i % 50);
    const std::string text = graph.document.dump();
    std::vector<uint8_t> mutated(text.begin(), text.end());
    mutator.bytes(mutated);
    try {
      load_and_run(container_bytes({mutated.begin(), mutated.end()}, graph.views()));
    } catch (const Error&) {  // no UTF-8 any more
    }
  }
}

}  // namespace
}  // namespace ptqx::engine
