#pragma once

// Makes small integer graphs and the .ptqx bytes that hold them. Names of nodes are "n1", "n2", ...

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "engine/container.h"

namespace ptqx::engine::testing {

struct Tensor {
  DType dtype;
  std::vector<int64_t> shape;
  std::vector<uint8_t> data;

  template <class T>
  static Tensor of(DType dtype, std::vector<int64_t> shape, const std::vector<T>& values) {
    Tensor tensor{dtype, std::move(shape), std::vector<uint8_t>(values.size() * sizeof(T))};
    if (!values.empty()) std::memcpy(tensor.data.data(), values.data(), tensor.data.size());
    return tensor;
  }
  template <class T>
  std::vector<T> as() const {
    std::vector<T> values(data.size() / sizeof(T));
    if (!values.empty()) std::memcpy(values.data(), data.data(), data.size());
    return values;
  }
};

struct Graph {
  nlohmann::json document;
  std::map<std::string, Tensor> tensors;

  TensorViews views() const {
    TensorViews views;
    for (const auto& [name, tensor] : tensors) views[name] = {tensor.dtype, tensor.shape, tensor.data};
    return views;
  }
  std::vector<uint8_t> bytes() const { return container_bytes(document.dump(), views()); }
};

/// What the builder remembers of a node.
struct Made {
  std::string name;
  std::vector<int64_t> shape;  // [c, h, w] or [c]
  bool is_float = true;
  float scale = 1.0F;
  int32_t zero_point = 0;
  int qmin = 0, qmax = 255;
};

struct Qparams {
  float scale;
  int32_t zero_point;
  int qmin = 0, qmax = 255;
};

struct ConvOptions {
  int64_t out = 8;
  std::vector<int64_t> kernel = {3, 3}, stride = {1, 1}, padding = {0, 0, 0, 0}, dilation = {1, 1};
  int64_t groups = 1, bits = 8, group_size = 0;
  bool bias = true, bias_f32 = false, weight_zero_point = false, dynamic = false, float_output = false;
  bool weight_levels = false;
  bool binary = false;  // weights -1 and 1 by bits = 1; the input is of `signs`
  bool fixed_point = false;
  std::string activation = "none";
  const Made* residual = nullptr;
};

class GraphBuilder {
 public:
  explicit GraphBuilder(std::vector<int64_t> input_shape, unsigned seed = 1) : random(seed) {
    graph.document = {
        {"format", "ptqx"}, {"version", 1}, {"producer", "test"}, {"nodes", nlohmann::json::array()}};
    graph.document["input"] = {{"name", "input"}, {"shape", input_shape}};
    input = {.name = "input", .shape = std::move(input_shape)};
  }

  int64_t integer(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  }
  float real(float low, float high) { return std::uniform_real_distribution<float>(low, high)(random); }
  bool coin() { return integer(0, 1) == 1; }

  Qparams some_qparams(float scale) {
    const int32_t zero_points[] = {0, 128, 255, static_cast<int32_t>(integer(0, 255))};
    return {scale, zero_points[integer(0, 3)]};
  }

  Made quantize(const Made& x, Qparams q) { return codes("quantize", {x}, x.shape, q); }
  Made dequantize(const Made& x) { return reals("dequantize", {x}, x.shape); }

  /// Random numbers, the same for every sample.
  Made constant(const std::vector<int64_t>& shape) {
    std::vector<float> values(static_cast<size_t>(product(shape)));
    for (float& value : values) value = real(-3.0F, 3.0F);
    const std::string name = "constant" + std::to_string(graph.tensors.size());
    graph.tensors[name] = Tensor::of(DType::kF32, shape, values);
    return reals("constant", {input}, shape, nlohmann::json::object(), {{"values", name}});
  }

  Made conv2d(const Made& x, const ConvOptions& o) {
    const int64_t in = x.shape[0] / o.groups;
    const auto extent = [&](size_t axis) {
      return (x.shape[axis + 1] + o.padding[axis] + o.padding[axis + 2] -
              o.dilation[axis] * (o.kernel[axis] - 1) - 1) /
                 o.stride[axis] +
             1;
    };
    nlohmann::json attrs = {
        {"stride", o.stride}, {"padding", o.padding}, {"dilation", o.dilation}, {"groups", o.groups}};
    return layer(o.dynamic       ? "conv2d_dynamic"
                 : o.binary      ? "binary_conv2d"
                 : o.fixed_point ? "conv2d_fixed_point"
                                 : "conv2d",
                 x, {o.out, in, o.kernel[0], o.kernel[1]}, {o.out, extent(0), extent(1)}, attrs, o);
  }

  Made linear(const Made& x, const ConvOptions& o) {
    return layer(o.dynamic       ? "linear_dynamic"
                 : o.binary      ? "binary_linear"
                 : o.fixed_point ? "linear_fixed_point"
                                 : "linear",
                 x, {o.out, x.shape[0]}, {o.out}, nlohmann::json::object(), o);
  }

  /// Of real values, to codes or to real values.
  Made layer_norm(const Made& x, std::optional<Qparams> to) {
    const std::string weight = "weight" + x.name, bias = "bias" + x.name;
    graph.tensors[weight] = floats({x.shape[0]}, -1.5F, 2.0F);
    graph.tensors[bias] = floats({x.shape[0]}, -0.5F, 0.5F);
    const nlohmann::json attrs = {{"eps", 1e-5}}, roles = {{"weight", weight}, {"bias", bias}};
    return to ? codes("layer_norm", {x}, x.shape, *to, attrs, roles)
              : reals("layer_norm", {x}, x.shape, attrs, roles);
  }

  Made group_norm(const Made& x, int64_t groups, std::optional<Qparams> to) {
    const std::string weight = "weight" + x.name, bias = "bias" + x.name;
    graph.tensors[weight] = floats({x.shape[0]}, -1.5F, 2.0F);
    graph.tensors[bias] = floats({x.shape[0]}, -0.5F, 0.5F);
    const nlohmann::json attrs = {{"eps", 1e-5}, {"groups", groups}};
    const nlohmann::json roles = {{"weight", weight}, {"bias", bias}};
    return to ? codes("group_norm", {x}, x.shape, *to, attrs, roles)
              : reals("group_norm", {x}, x.shape, attrs, roles);
  }

  /// Over the channels of each pixel, of real values, to codes or to real values.
  Made softmax(const Made& x, std::optional<Qparams> to, bool log = false) {
    const nlohmann::json attrs = {{"log", log}};
    return to ? codes("softmax", {x}, x.shape, *to, attrs) : reals("softmax", {x}, x.shape, attrs);
  }

  /// Of codes [k, rows, m] and [k, rows, n], to codes or to real values [n, rows, m].
  Made matmul(const Made& a, const Made& b, double factor, std::optional<Qparams> to) {
    const std::vector<int64_t> shape = {b.shape[2], a.shape[1], a.shape[2]};
    const nlohmann::json attrs = {{"factor", factor}};
    return to ? codes("matmul", {a, b}, shape, *to, attrs) : reals("matmul", {a, b}, shape, attrs);
  }

  /// Codes 0 and 2: which side of the code `threshold` x lies.
  Made signs(const Made& x, int threshold) {
    const std::string table = "table" + x.name;
    std::vector<uint8_t> values(256);
    for (int code = threshold; code < 256; ++code) values[static_cast<size_t>(code)] = 2;
    graph.tensors[table] = Tensor::of(DType::kU8, {256}, values);
    return codes("lookup", {x}, x.shape, {0.5F, 1, 0, 2}, nlohmann::json::object(), {{"table", table}});
  }

  /// A node that keeps dtype and qparams.
  Made moved(const std::string& op, const std::vector<Made>& inputs, std::vector<int64_t> shape,
             nlohmann::json attrs) {
    const Made& x = inputs[0];
    return x.is_float ? reals(op, inputs, std::move(shape), std::move(attrs))
                      : codes(op, inputs, std::move(shape), {x.scale, x.zero_point, x.qmin, x.qmax},
                              std::move(attrs));
  }

  Made codes(const std::string& op, const std::vector<Made>& inputs, std::vector<int64_t> shape, Qparams q,
             nlohmann::json attrs = nlohmann::json::object(),
             nlohmann::json roles = nlohmann::json::object()) {
    const std::string name = next_name();
    graph.tensors[name + ".scale"] = Tensor::of<float>(DType::kF32, {1}, {q.scale});
    graph.tensors[name + ".zero_point"] = Tensor::of<int32_t>(DType::kI32, {1}, {q.zero_point});
    add(name, op, inputs, std::move(attrs), std::move(roles),
        {{"dtype", "uint8"},
         {"scale", name + ".scale"},
         {"zero_point", name + ".zero_point"},
         {"qmin", q.qmin},
         {"qmax", q.qmax}});
    return {name, std::move(shape), false, q.scale, q.zero_point, q.qmin, q.qmax};
  }

  Made reals(const std::string& op, const std::vector<Made>& inputs, std::vector<int64_t> shape,
             nlohmann::json attrs = nlohmann::json::object(),
             nlohmann::json roles = nlohmann::json::object()) {
    const std::string name = next_name();
    add(name, op, inputs, std::move(attrs), std::move(roles), {{"dtype", "float32"}});
    return {.name = name, .shape = std::move(shape)};
  }

  /// Puts the activation's attributes into `attrs`, with args in units of `scale`.
  void set_activation(const std::string& name, float scale, int64_t channels, nlohmann::json& attrs,
                      nlohmann::json& roles) {
    attrs["activation"] = name;
    nlohmann::json args = nlohmann::json::array();
    if (name == "relu") {
      attrs["activation"] = "clip";
      args = {0.0F, "inf"};
    } else if (name == "clip") {
      args = {-3.0F / scale, 6.0F / scale};
    } else if (name == "leaky_relu") {
      args = {0.1F};
    } else if (name == "hardsigmoid") {
      args = {1.0F / 6.0F, 0.5F / scale, 1.0F / scale};
    } else if (name == "hardswish") {
      args = {scale / 6.0F};
    } else if (name == "prelu") {
      const std::string tensor = "slopes" + std::to_string(count_);
      roles["slopes"] = tensor;
      graph.tensors[tensor] = floats({channels}, -0.5F, 0.5F);
    }
    attrs["activation_args"] = args;
  }

  /// Whole numbers for real factors, one a term, about the same for all channels.
  void set_fixed_point(const std::vector<double>& factors, int64_t channels, const Qparams& q,
                       nlohmann::json& attrs, nlohmann::json& roles) {
    attrs["low"] = integer(q.qmin, q.zero_point);
    attrs["high"] = integer(std::max<int64_t>(q.zero_point, attrs["low"].get<int64_t>()), q.qmax);
    const int64_t columns = coin() ? 1 : channels;
    int exponent = 0;
    std::frexp(*std::ranges::max_element(factors), &exponent);
    const auto terms = static_cast<int64_t>(factors.size());
    const int32_t places = static_cast<int32_t>(std::clamp<int64_t>(31 - terms - exponent, 0, 62));
    std::vector<int32_t> multiplier;
    for (const double factor : factors) {
      for (int64_t c = 0; c < columns; ++c) {
        multiplier.push_back(static_cast<int32_t>(std::ldexp(factor * real(0.5F, 1.0F), places)));
      }
    }
    const std::string prefix = "fixed" + std::to_string(count_);
    roles["multiplier"] = prefix + ".multiplier";
    roles["shift"] = prefix + ".shift";
    graph.tensors[prefix + ".multiplier"] = Tensor::of(DType::kI32, {terms, columns}, multiplier);
    const std::vector<int32_t> shift(static_cast<size_t>(coin() ? 1 : channels), places);
    graph.tensors[prefix + ".shift"] = Tensor::of(DType::kI32, {std::ssize(shift)}, shift);
  }

  Tensor floats(std::vector<int64_t> shape, float low, float high) {
    std::vector<float> values(static_cast<size_t>(product(shape)));
    for (float& value : values) value = real(low, high);
    return Tensor::of(DType::kF32, std::move(shape), values);
  }

  Graph finish(const Made& output) {
    graph.document["output"] = output.name;
    return graph;
  }

  static int64_t product(const std::vector<int64_t>& shape) {
    int64_t size = 1;
    for (const int64_t extent : shape) size *= extent;
    return size;
  }

  Graph graph;
  Made input;
  std::mt19937 random;

 private:
  std::string next_name() { return "n" + std::to_string(++count_); }

  void add(const std::string& name, const std::string& op, const std::vector<Made>& inputs,
           nlohmann::json attrs, nlohmann::json roles, nlohmann::json output) {
    nlohmann::json names = nlohmann::json::array();
    for (const Made& made : inputs) names.push_back(made.name);
    graph.document["nodes"].push_back({{"name", name},
                                       {"op", op},
                                       {"inputs", names},
                                       {"attrs", attrs},
                                       {"tensors", roles},
                                       {"output", output}});
  }

  Tensor weight(const std::vector<int64_t>& shape, int64_t bits) {
    const int64_t limit = int64_t{1} << (bits - 1);
    std::vector<int8_t> values(static_cast<size_t>(product(shape)));
    for (int8_t& value : values) value = static_cast<int8_t>(integer(-limit, limit - 1));
    if (bits == 8) return Tensor::of(DType::kI8, shape, values);
    const int64_t k = product(shape) / shape[0];
    const int64_t row_bytes = (k * bits + 7) / 8;
    std::vector<uint8_t> packed(static_cast<size_t>(shape[0] * row_bytes));
    for (int64_t row = 0; row < shape[0]; ++row) {
      for (int64_t bit = 0; bit < k * bits; ++bit) {
        const int value = values[static_cast<size_t>(row * k + bit / bits)] >> (bit % bits) & 1;
        packed[static_cast<size_t>(row * row_bytes + bit / 8)] |= static_cast<uint8_t>(value << (bit % 8));
      }
    }
    return Tensor::of(DType::kU8, {shape[0], row_bytes}, packed);
  }

  Made layer(const std::string& op, const Made& x, const std::vector<int64_t>& weight_shape,
             std::vector<int64_t> shape, nlohmann::json attrs, const ConvOptions& o) {
    const std::string prefix = "w" + std::to_string(count_) + ".";
    const int64_t k = product(weight_shape) / o.out;
    const float weight_scale = 2.0F / static_cast<float>(1 << o.bits);
    attrs["weight_shape"] = weight_shape;
    attrs["weight_bits"] = o.bits;
    attrs["group_size"] = o.group_size;
    nlohmann::json roles = {{"weight", prefix + "weight"}, {"weight_scale", prefix + "scale"}};
    graph.tensors[prefix + "weight"] = weight(weight_shape, o.bits);
    std::vector<int64_t> scale_shape = {coin() ? 1 : o.out};
    if (o.group_size > 0) scale_shape = {o.out, (weight_shape[1] + o.group_size - 1) / o.group_size};
    graph.tensors[prefix + "scale"] = floats(scale_shape, 0.5F * weight_scale, weight_scale);
    // Roughly the standard deviation of the result divided by 40 codes.
    const float x_scale = x.is_float ? 1.0F / 60.0F : x.scale;
    const Qparams q = some_qparams(x_scale * std::sqrt(static_cast<float>(k)));
    if (o.bias || o.bias_f32) {
      roles["bias"] = prefix + "bias";
      std::vector<int32_t> values(static_cast<size_t>(o.out));
      for (int32_t& value : values) value = static_cast<int32_t>(integer(-5000, 5000));
      const bool as_float = o.bias_f32 || o.group_size > 0 || o.dynamic;
      graph.tensors[prefix + "bias"] = as_float ? floats({o.out}, -20.0F * q.scale, 20.0F * q.scale)
                                                : Tensor::of(DType::kI32, {o.out}, values);
    }
    if (o.weight_zero_point) {
      roles["weight_zero_point"] = prefix + "weight_zero_point";
      std::vector<int32_t> values(static_cast<size_t>(o.out));
      for (int32_t& value : values) value = static_cast<int32_t>(integer(-20, 20));
      graph.tensors[prefix + "weight_zero_point"] = Tensor::of(DType::kI32, {o.out}, values);
    }
    if (o.binary) {
      roles["weight_levels"] = prefix + "weight_levels";
      graph.tensors[prefix + "weight_levels"] = Tensor::of<int8_t>(DType::kI8, {1, 2}, {-1, 1});
    }
    if (o.weight_levels) {
      roles["weight_levels"] = prefix + "weight_levels";
      const std::vector<int64_t> shape = {coin() ? 1 : o.out, int64_t{1} << o.bits};
      std::vector<int8_t> values(static_cast<size_t>(product(shape)));
      for (int8_t& value : values) value = static_cast<int8_t>(integer(-128, 127));
      graph.tensors[prefix + "weight_levels"] = Tensor::of(DType::kI8, shape, values);
    }
    const bool gives_float = o.dynamic || o.float_output;
    set_activation(o.activation, gives_float ? 1.0F : q.scale, o.out, attrs, roles);
    if (o.fixed_point) {
      set_fixed_point({double{x_scale} * weight_scale / q.scale}, o.out, q, attrs, roles);
    }
    std::vector<Made> inputs = {x};
    if (o.residual != nullptr) inputs.push_back(*o.residual);
    return gives_float ? reals(op, inputs, std::move(shape), attrs, roles)
                       : codes(op, inputs, std::move(shape), q, attrs, roles);
  }

  int count_ = 0;
};

}  // namespace ptqx::engine::testing
