#include "engine/node_reader.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "engine/engine.h"
#include "engine/text.h"
#include "kernels/arith.h"

namespace ptqx::engine {
namespace {

using nlohmann::json;

const json kNone = json::object();

const json& object_or_empty(const json& parent, const char* key) {
  const auto found = parent.find(key);
  return found == parent.end() ? kNone : *found;
}

bool read_integer(const json& value, int64_t low, int64_t high, int64_t& result) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned() && value.get<uint64_t>() > std::numeric_limits<int64_t>::max()) return false;
  result = value.get<int64_t>();
  return low <= result && result <= high;
}

/// A JSON number, or "inf" or "-inf".
bool read_float(const json& value, float& result) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  if (value == "inf" || value == "-inf") {
    result = value == "inf" ? kInfinity : -kInfinity;
    return true;
  }
  if (!value.is_number()) return false;
  const double number = value.get<double>();
  if (std::abs(number) > std::numeric_limits<float>::max()) return false;
  result = static_cast<float>(number);
  return true;
}

std::string range_text(int64_t low, int64_t high) {
  return std::to_string(low) + " to " + std::to_string(high);
}

std::string shape_text(const std::vector<int64_t>& shape) { return "[" + join(shape, ", ") + "]"; }

struct ActivationRow {
  const char* name;
  kernels::Activation kind;
  size_t args;
};
constexpr ActivationRow kActivations[] = {{"none", kernels::Activation::kNone, 0},
                                          {"clip", kernels::Activation::kClip, 2},
                                          {"leaky_relu", kernels::Activation::kLeakyRelu, 1},
                                          {"prelu", kernels::Activation::kPrelu, 0},
                                          {"hardsigmoid", kernels::Activation::kHardsigmoid, 3},
                                          {"hardswish", kernels::Activation::kHardswish, 1}};

}  // namespace

void set_shape(Value& value, const std::vector<int64_t>& shape) {
  value.spatial = shape.size() > 1;
  value.sequence = shape.size() == 2;
  value.c = shape.front();
  value.h = shape.size() == 3 ? shape[1] : 1;
  value.w = value.spatial ? shape.back() : 1;
}

bool valid_scale(float scale) { return std::isfinite(scale) && scale >= 0x1p-64F; }

template <class T>
std::vector<T> elements(const TensorView& tensor) {
  std::vector<T> values(tensor.data.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), tensor.data.data(), values.size() * sizeof(T));
  return values;
}
template std::vector<float> elements<float>(const TensorView&);
template std::vector<int32_t> elements<int32_t>(const TensorView&);

NodeReader::NodeReader(const json& entry, const Container& container, const std::vector<Node>& nodes,
                       Node& node)
    : json_(entry), container_(container), nodes_(nodes), node_(node) {
  for (const char* key : {"attrs", "tensors"}) {
    require(object_or_empty(json_, key).is_object(), "attrs and tensors must be objects");
  }
  read_output();
}

void NodeReader::fail(const std::string& message) const {
  throw Error("node " + quote(node_.name) + " (" + node_.op + "): " + message);
}

void NodeReader::read_output() {
  const auto found = json_.find("output");
  require(found != json_.end() && found->is_object(), "output must be an object");
  const json dtype = found->value("dtype", json());
  Value& output = node_.output;
  output.is_float = dtype == "float32";
  if (output.is_float) return;
  require(dtype == "uint8", "output.dtype must be \"uint8\" or \"float32\"");

  const auto one_element = [&](const char* role, DType expected) -> const TensorView& {
    const TensorView& view = named_tensor(role, found->value(role, json()));
    if (view.dtype != expected || view.data.size() != dtype_size(expected)) {
      fail(std::string("output.") + role + " must be one element of " + dtype_name(expected));
    }
    return view;
  };
  output.scale = elements<float>(one_element("scale", DType::kF32))[0];
  require(valid_scale(output.scale), "output.scale must be finite and at least 2^-64");
  output.zero_point = elements<int32_t>(one_element("zero_point", DType::kI32))[0];
  int64_t qmin = 0, qmax = 0;
  if (!read_integer(found->value("qmin", json()), 0, 255, qmin) ||
      !read_integer(found->value("qmax", json()), 0, 255, qmax) || qmin >= qmax) {
    fail("output.qmin and output.qmax must be whole numbers, 0 <= qmin < qmax <= 255");
  }
  output.qmin = static_cast<int32_t>(qmin);
  output.qmax = static_cast<int32_t>(qmax);
  if (output.zero_point < qmin || output.zero_point > qmax) {
    fail("output.zero_point must be " + range_text(qmin, qmax) + "; got " +
         std::to_string(output.zero_point));
  }
}

void NodeReader::require_codes(size_t index) const {
  if (input(index).is_float) fail("input " + std::to_string(index) + " must be codes (uint8), not float32");
}

void NodeReader::require_one_dtype() const {
  for (size_t i = 0; i < inputs(); ++i) {
    require(input(i).is_float == node_.output.is_float, "inputs and output must all be uint8 or all float32");
  }
}

void NodeReader::require_moved_codes(size_t index) const {
  const Value& from = input(index);
  const Value& to = node_.output;
  require(from.is_float == to.is_float, "inputs and output must all be uint8 or all float32");
  if (to.is_float) return;
  require(from.scale == to.scale && from.zero_point == to.zero_point,
          "moves codes, so scale and zero_point must be the same for inputs and output");
  require(to.qmin <= from.qmin && from.qmax <= to.qmax, "the output's qmin..qmax must contain its inputs'");
}

void NodeReader::require_spatial(size_t index) const {
  require(input(index).spatial, "the input must have the shape [channels, height, width]");
}

bool NodeReader::has(const char* name) const { return object_or_empty(json_, "attrs").contains(name); }

const json& NodeReader::attribute(const char* name) {
  const json& attributes = object_or_empty(json_, "attrs");
  const auto found = attributes.find(name);
  if (found == attributes.end()) fail(std::string("the attribute ") + name + " is missing");
  used_attributes_.insert(name);
  return *found;
}

int64_t NodeReader::integer(const char* name, int64_t low, int64_t high) {
  const json& value = attribute(name);
  int64_t result = 0;
  if (!read_integer(value, low, high, result)) {
    fail(std::string(name) + " must be a whole number from " + range_text(low, high));
  }
  return result;
}

int64_t NodeReader::integer_or(const char* name, int64_t fallback, int64_t low, int64_t high) {
  return has(name) ? integer(name, low, high) : fallback;
}

double NodeReader::positive(const char* name) {
  const json& value = attribute(name);
  const double number = value.is_number() ? value.get<double>() : 0.0;
  if (!(number > 0.0) || !std::isfinite(number)) fail(std::string(name) + " must be a positive number");
  return number;
}

std::vector<double> NodeReader::reals_or_none(const char* name, size_t count) {
  std::vector<double> numbers;
  const json values = has(name) ? attribute(name) : json::array();
  const auto is_finite = [](const json& value) {
    return value.is_number() && std::isfinite(value.get<double>());
  };
  if (!values.is_array() || values.size() != count || !std::all_of(values.begin(), values.end(), is_finite)) {
    fail(std::string(name) + " must be " + std::to_string(count) + " finite numbers in an array");
  }
  for (const json& value : values) numbers.push_back(value.get<double>());
  return numbers;
}

bool NodeReader::boolean_or(const char* name, bool fallback) {
  if (!has(name)) return fallback;
  const json& value = attribute(name);
  if (!value.is_boolean()) fail(std::string(name) + " must be true or false");
  return value.get<bool>();
}

std::string NodeReader::text_or(const char* name, const std::string& fallback) {
  if (!has(name)) return fallback;
  const json& value = attribute(name);
  if (!value.is_string()) fail(std::string(name) + " must be a string");
  return value.get<std::string>();
}

std::vector<int64_t> NodeReader::integers(const char* name, size_t count, int64_t low, int64_t high) {
  const json& value = attribute(name);
  std::vector<int64_t> result;
  if (value.is_array() && value.size() == count) {
    for (const json& item : value) {
      int64_t number = 0;
      if (!read_integer(item, low, high, number)) break;
      result.push_back(number);
    }
  }
  if (result.size() != count) {
    fail(std::string(name) + " must be " + std::to_string(count) + " whole numbers from " +
         range_text(low, high));
  }
  return result;
}

std::vector<int64_t> NodeReader::some_integers(const char* name, size_t most, int64_t low, int64_t high) {
  const json& value = attribute(name);
  if (!value.is_array() || value.empty() || value.size() > most) {
    fail(std::string(name) + " must be 1 to " + std::to_string(most) + " whole numbers");
  }
  return integers(name, value.size(), low, high);
}

std::vector<int64_t> NodeReader::integers_or(const char* name, std::vector<int64_t> fallback, int64_t low,
                                             int64_t high) {
  return has(name) ? integers(name, fallback.size(), low, high) : fallback;
}

ActivationSpec NodeReader::activation() {
  const std::string name = text_or("activation", "none");
  const ActivationRow* row = nullptr;
  for (const ActivationRow& candidate : kActivations) {
    if (name == candidate.name) row = &candidate;
  }
  if (row == nullptr) fail("unknown activation " + quote(name));
  std::vector<float> args;
  if (has("activation_args")) {
    const json& values = attribute("activation_args");
    require(values.is_array() && values.size() <= 3, "activation_args must be an array of at most 3 numbers");
    for (const json& value : values) {
      float number = 0;
      require(read_float(value, number), "activation_args must be float32 numbers, \"inf\" or \"-inf\"");
      args.push_back(number);
    }
  }
  if (args.size() != row->args) {
    fail("activation " + name + " takes " + std::to_string(row->args) + " activation_args; got " +
         std::to_string(args.size()));
  }
  ActivationSpec spec;
  spec.args.kind = row->kind;
  if (row->kind == kernels::Activation::kClip) {
    require(args[0] <= args[1], "activation clip needs low <= high");
    spec.args.low = args[0];
    spec.args.high = args[1];
    return spec;
  }
  for (const float number : args) require(std::isfinite(number), "activation_args must be finite");
  if (!args.empty()) spec.args.slope = args[0];
  if (row->kind == kernels::Activation::kHardsigmoid) {
    require(args[2] >= 0, "activation hardsigmoid needs high >= 0");
    spec.args.offset = args[1];
    spec.args.high = args[2];
  }
  if (row->kind == kernels::Activation::kPrelu) {
    spec.slopes = finite_f32("slopes", node_.output.c);
    if (spec.slopes.size() == 1) {
      spec.args.kind = kernels::Activation::kLeakyRelu;
      spec.args.slope = spec.slopes[0];
    }
  }
  return spec;
}

FixedPoint NodeReader::fixed_point(int64_t terms, int64_t channels) {
  const Value& y = node_.output;
  require(!y.is_float, "gives uint8");
  if (has("activation")) {
    const kernels::Activation kind = activation().args.kind;
    require(kind == kernels::Activation::kNone || kind == kernels::Activation::kClip,
            "without floats an activation is a clamp");
  }
  FixedPoint fixed{.multiplier = {},
                   .shift = {},
                   .low = static_cast<int32_t>(integer("low", y.qmin, y.qmax)),
                   .high = static_cast<int32_t>(integer("high", y.qmin, y.qmax))};
  require(fixed.low <= fixed.high, "low must not be above high");
  const bool single = tensor_shape("multiplier") == std::vector<int64_t>{terms, 1};
  const TensorView& view = tensor("multiplier", DType::kI32, {terms, single ? 1 : channels});
  fixed.multiplier = elements<int32_t>(view);
  if (single && terms == 1) fixed.multiplier.resize(static_cast<size_t>(channels), fixed.multiplier[0]);
  for (const int32_t m : fixed.multiplier) require(m >= 0, "multiplier must be at least 0");
  fixed.shift = channel_s32("shift", channels);
  for (const int32_t places : fixed.shift) {
    require(0 <= places && places <= kernels::kMostPlaces, "shift must be 0 to 62");
  }
  return fixed;
}

bool NodeReader::has_tensor(const char* role) const {
  return object_or_empty(json_, "tensors").contains(role);
}

const TensorView& NodeReader::named_tensor(const std::string& role, const json& name) const {
  if (!name.is_string()) fail("the tensor " + role + " is missing");
  const auto& text = name.get_ref<const std::string&>();
  const auto found = container_.tensors().find(text);
  if (found == container_.tensors().end()) fail("the file has no tensor " + quote(text));
  return found->second;
}

DType NodeReader::tensor_dtype(const char* role) const {
  return named_tensor(role, object_or_empty(json_, "tensors").value(role, json())).dtype;
}

const std::vector<int64_t>& NodeReader::tensor_shape(const char* role) const {
  return named_tensor(role, object_or_empty(json_, "tensors").value(role, json())).shape;
}

const TensorView& NodeReader::tensor(const char* role, DType dtype, const std::vector<int64_t>& shape) {
  const TensorView& view = named_tensor(role, object_or_empty(json_, "tensors").value(role, json()));
  used_tensors_.insert(role);
  if (view.dtype != dtype || view.shape != shape) {
    fail(std::string(role) + " must be " + dtype_name(dtype) + " " + shape_text(shape) + "; got " +
         dtype_name(view.dtype) + " " + shape_text(view.shape));
  }
  return view;
}

const TensorView& NodeReader::channel_tensor(const char* role, DType dtype, int64_t channels) {
  const TensorView& view = named_tensor(role, object_or_empty(json_, "tensors").value(role, json()));
  const bool single = view.shape.empty() || view.shape == std::vector<int64_t>{1};
  return tensor(role, dtype, single ? view.shape : std::vector<int64_t>{channels});
}

std::vector<float> NodeReader::finite_f32(const char* role, int64_t channels) {
  std::vector<float> values = elements<float>(channel_tensor(role, DType::kF32, channels));
  for (const float value : values) {
    if (!std::isfinite(value)) fail(std::string(role) + " must be finite");
  }
  return values;
}

std::vector<float> NodeReader::channel_f32(const char* role, int64_t channels) {
  std::vector<float> values = finite_f32(role, channels);
  if (values.size() == 1) values.resize(static_cast<size_t>(channels), values[0]);
  return values;
}

std::vector<int32_t> NodeReader::channel_s32(const char* role, int64_t channels) {
  std::vector<int32_t> values = elements<int32_t>(channel_tensor(role, DType::kI32, channels));
  if (values.size() == 1) values.resize(static_cast<size_t>(channels), values[0]);
  return values;
}

void NodeReader::finish() const {
  for (const auto& [name, value] : object_or_empty(json_, "attrs").items()) {
    if (!used_attributes_.contains(name)) fail("unknown attribute " + quote(name));
  }
  for (const auto& [role, value] : object_or_empty(json_, "tensors").items()) {
    if (!used_tensors_.contains(role)) fail("unknown tensor role " + quote(role));
  }
}

}  // namespace ptqx::engine
