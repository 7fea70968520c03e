#include "engine/program.h"

#include <algorithm>
#include <limits>
#include <unordered_map>

#include "engine/engine.h"
#include "engine/node_reader.h"
#include "engine/text.h"

namespace ptqx::engine {
namespace {

using nlohmann::json;

constexpr size_t kMaxNodes = 10'000;
constexpr size_t kMaxOutputs = 1'000;
constexpr int kMaxOutputDepth = 8;                    // of tuples in tuples
constexpr int64_t kMaxValueBytes = int64_t{1} << 30;  // of one value of one sample

/// One kind of node. A new one is its struct in program.h, its reader, this row, and its step.
struct Kind {
  const char* op;
  size_t min_inputs, max_inputs;
  Operation (*read)(NodeReader&);
};

constexpr Kind kKinds[] = {
    {"constant", 1, 1, read_constant},
    {"quantize", 1, 1, read_quantize},
    {"dequantize", 1, 1, read_dequantize},
    {"conv2d", 1, 2, read_conv2d},
    {"conv2d_fixed_point", 1, 1, read_conv2d_fixed_point},
    {"linear", 1, 2, read_linear},
    {"linear_fixed_point", 1, 1, read_linear_fixed_point},
    {"binary_conv2d", 1, 2, read_binary_conv2d},
    {"binary_linear", 1, 2, read_binary_linear},
    {"conv2d_dynamic", 1, 1, read_conv2d_dynamic},
    {"linear_dynamic", 1, 1, read_linear_dynamic},
    {"max_pool2d", 1, 1, read_max_pool2d},
    {"avg_pool2d", 1, 1, read_avg_pool2d},
    {"avg_pool2d_fixed_point", 1, 1, read_avg_pool2d_fixed_point},
    {"adaptive_avg_pool2d", 1, 1, read_adaptive_avg_pool2d},
    {"adaptive_avg_pool2d_fixed_point", 1, 1, read_adaptive_avg_pool2d_fixed_point},
    {"add", 2, 2, read_add},
    {"add_fixed_point", 2, 2, read_add_fixed_point},
    {"mul", 2, 2, read_mul},
    {"mul_fixed_point", 2, 2, read_mul_fixed_point},
    {"activation", 1, 1, read_activation},
    {"lookup", 1, 1, read_lookup},
    {"layer_norm", 1, 1, read_layer_norm},
    {"group_norm", 1, 1, read_group_norm},
    {"softmax", 1, 1, read_softmax},
    {"matmul", 2, 2, read_matmul},
    {"cat", 1, 1024, read_cat},
    {"flatten", 1, 1, read_flatten},
    {"reshape", 1, 1, read_reshape},
    {"permute", 1, 1, read_permute},
    {"slice", 1, 1, read_slice},
    {"channel_shuffle", 1, 1, read_channel_shuffle},
    {"pad", 1, 1, read_pad},
    {"pixel_shuffle", 1, 1, read_pixel_shuffle},
    {"pixel_unshuffle", 1, 1, read_pixel_unshuffle},
    {"upsample_nearest2d", 1, 1, read_upsample_nearest2d},
    {"upsample_zeros2d", 1, 1, read_upsample_zeros2d},
    {"upsample_bilinear2d", 1, 1, read_upsample_bilinear2d},
};

const Kind& find_kind(const std::string& name, const std::string& op) {
  for (const Kind& kind : kKinds) {
    if (op == kind.op) return kind;
  }
  throw Error("node " + quote(name) + ": the engine does not run " + quote(op) + "; use the integer model");
}

/// Readers compute extents of at most 2^60, and the products are cut off in between: nothing overflows.
void check_size(const Value& value, const std::string& what) {
  int64_t size = value.is_float ? static_cast<int64_t>(sizeof(float)) : 1;
  for (const int64_t extent : {value.c, value.h, value.w}) {
    if (extent < 1) throw Error(what + " would be empty: every extent must be at least 1");
    if (extent > kMaxValueBytes || (size *= extent) > kMaxValueBytes) {
      throw Error(what + " would exceed " + std::to_string(kMaxValueBytes) + " bytes a sample");
    }
  }
}

const std::string& string_at(const json& object, const char* key, const std::string& what) {
  const auto found = object.find(key);  // end() also of what is no object
  if (found == object.end() || !found->is_string())
    throw Error(what + " must have the string \"" + key + "\"");
  return found->get_ref<const std::string&>();
}

class ProgramReader {
 public:
  explicit ProgramReader(const Container& container) : container_(container) {}

  Program read() {
    const json document = parse_json(container_.graph(), "the graph");
    if (!document.is_object() || document.value("format", json()) != "ptqx" ||
        document.value("version", json()) != 1) {
      throw Error("the graph must have the format \"ptqx\" and the version 1");
    }
    read_input(document.value("input", json()));
    const auto nodes = document.find("nodes");
    if (nodes == document.end() || !nodes->is_array() || nodes->size() > kMaxNodes) {
      throw Error("the graph must have at most " + std::to_string(kMaxNodes) + " nodes, in an array");
    }
    program_.nodes.reserve(nodes->size() + 1);
    for (const json& node : *nodes) read_node(node);

    read_outputs(document.value("output", json()), "", 0);
    if (program_.outputs.empty()) throw Error("the graph must have an \"output\"");
    if (document.contains("tuning")) read_tuning(document["tuning"]);
    return std::move(program_);
  }

 private:
  const Node& node(int index) const { return program_.nodes[static_cast<size_t>(index)]; }

  int find_node(const std::string& name, const std::string& what) const {
    const auto found = index_.find(name);
    if (found == index_.end()) throw Error(what + " names " + quote(name) + ", which is no earlier node");
    return found->second;
  }

  void add(Node node) {
    if (!index_.emplace(node.name, static_cast<int>(program_.nodes.size())).second) {
      throw Error("the graph has two nodes " + quote(node.name));
    }
    program_.nodes.push_back(std::move(node));
  }

  void read_input(const json& input) {
    if (!input.is_object()) throw Error("the graph must have an \"input\"");
    Node node{.name = string_at(input, "name", "the graph's input"), .op = "input"};
    const json shape = input.value("shape", json());
    const bool whole = shape.is_array() && std::all_of(shape.begin(), shape.end(), [](const json& extent) {
                         return extent.is_number_unsigned() && extent <= kMaxValueBytes;
                       });
    if (!whole || shape.empty() || shape.size() > 3) {
      throw Error(
          "the graph's input must have the shape [channels, height, width], [channels, length] or "
          "[features]");
    }
    set_shape(node.output, shape.get<std::vector<int64_t>>());
    check_size(node.output, "the graph's input");
    add(std::move(node));
  }

  /// The name of a node; {"tuple": [...]} or {"list": [...]} of such; {"dict": [["key", ...], ...]}; null.
  void read_outputs(const json& output, const std::string& path, int depth) {
    if (output.is_null()) return;
    if (output.is_string()) return add_output(output.get_ref<const std::string&>(), path);
    const std::string kind = output.is_object() && output.size() == 1 ? output.begin().key() : "";
    const bool known = (kind == "tuple" || kind == "list" || kind == "dict") && output.begin()->is_array();
    if (!known || depth == kMaxOutputDepth) refuse_output();
    int position = 0;
    for (const json& part : *output.begin()) {
      if (kind != "dict") {
        read_outputs(part, place(path, std::to_string(position++)), depth + 1);
        continue;
      }
      if (!part.is_array() || part.size() != 2 || !part[0].is_string()) refuse_output();
      read_outputs(part[1], place(path, part[0].get_ref<const std::string&>()), depth + 1);
    }
  }

  static std::string place(const std::string& path, const std::string& key) {
    return path.empty() ? key : path + "." + key;
  }

  [[noreturn]] static void refuse_output() {
    throw Error("the graph's output must be a name, or tuples, lists and dicts of names, at most " +
                std::to_string(kMaxOutputDepth) + " deep");
  }

  void add_output(const std::string& name, const std::string& path) {
    const int index = find_node(name, "the graph's output");
    if (!node(index).output.is_float) throw Error("the graph's output must be float32");
    if (program_.outputs.size() == kMaxOutputs) {
      throw Error("the graph must have at most " + std::to_string(kMaxOutputs) + " outputs");
    }
    program_.outputs.push_back({path, index, node(index).output});
  }

  /// {"machine": "...", "steps": [{"name": "features.0", "samples": 1, "threads": 1, "strategy": "..."}]}
  void read_tuning(const json& tuning) {
    const json steps = tuning.is_object() ? tuning.value("steps", json()) : json();
    const std::string& machine = string_at(tuning, "machine", "the tuning");
    if (!steps.is_array()) throw Error("the tuning must have \"steps\" in an array");
    for (const json& step : steps) {
      const auto count = [&](const char* key) {
        const json value = step.is_object() ? step.value(key, json()) : json();
        if (!value.is_number_unsigned() || value > std::numeric_limits<int32_t>::max()) {
          throw Error("a step of the tuning must have the whole number \"" + std::string(key) + "\"");
        }
        return value.get<int32_t>();
      };
      TunedStep tuned{.name = "", .samples = count("samples"), .threads = count("threads"), .strategy = ""};
      tuned.name = string_at(step, "name", "a step of the tuning");
      tuned.strategy = string_at(step, "strategy", "a step of the tuning");
      if (machine == tuning_machine()) program_.tuned.push_back(std::move(tuned));
    }
  }

  void read_node(const json& entry) {
    const std::string what = "node " + std::to_string(program_.nodes.size() - 1);
    if (!entry.is_object()) throw Error(what + " must be an object");
    Node node{.name = string_at(entry, "name", what), .op = string_at(entry, "op", what)};
    const Kind& kind = find_kind(node.name, node.op);
    const std::string title = "node " + quote(node.name) + " (" + node.op + ")";
    const json inputs = entry.value("inputs", json());
    if (!inputs.is_array() || inputs.size() < kind.min_inputs || inputs.size() > kind.max_inputs) {
      throw Error(title + ": inputs must be " + std::to_string(kind.min_inputs) + " to " +
                  std::to_string(kind.max_inputs) + " names");
    }
    for (const json& input : inputs) {
      if (!input.is_string()) throw Error(title + ": inputs must be names");
      node.inputs.push_back(find_node(input.get_ref<const std::string&>(), title));
    }
    NodeReader reader(entry, container_, program_.nodes, node);
    node.operation = kind.read(reader);
    reader.finish();
    check_size(node.output, title + ": the output");
    add(std::move(node));
  }

  const Container& container_;
  Program program_;
  std::unordered_map<std::string, int> index_;
};

}  // namespace

Program read_program(const Container& container) { return ProgramReader(container).read(); }

}  // namespace ptqx::engine
