#include "random_network.h"

#include <optional>

namespace ptqx::engine::testing {
namespace {

const char* kActivations[] = {"none", "relu", "clip", "leaky_relu", "prelu", "hardsigmoid", "hardswish"};

class RandomNetwork {
 public:
  RandomNetwork(unsigned seed, bool dynamic)
      : b_({pick({1, 3, 4, 8}, seed), pick({5, 8, 11}, seed / 4), pick({6, 8, 9}, seed / 12)}, seed),
        dynamic_(dynamic) {}

  Graph make() {
    Made x = dynamic_ ? b_.input : b_.quantize(b_.input, b_.some_qparams(4.0F / 255.0F));
    const int64_t count = b_.integer(2, 9);
    for (int64_t i = 0; i < count; ++i) x = step(x);
    return b_.finish(head(x));
  }

 private:
  static int64_t pick(std::vector<int64_t> choices, unsigned index) {
    return choices[index % choices.size()];
  }
  int64_t pick(std::vector<int64_t> choices) {
    return choices[static_cast<size_t>(b_.integer(0, static_cast<int64_t>(choices.size()) - 1))];
  }
  std::string activation(int64_t count) { return kActivations[b_.integer(0, count - 1)]; }

  Made step(const Made& x) {
    using Method = Made (RandomNetwork::*)(const Made&);
    static constexpr Method kMethods[] = {&RandomNetwork::conv,          &RandomNetwork::conv,
                                          &RandomNetwork::depthwise,     &RandomNetwork::residual,
                                          &RandomNetwork::max_pool,      &RandomNetwork::avg_pool,
                                          &RandomNetwork::add,           &RandomNetwork::mul,
                                          &RandomNetwork::excite,        &RandomNetwork::cat,
                                          &RandomNetwork::slice,         &RandomNetwork::shuffle,
                                          &RandomNetwork::pad,           &RandomNetwork::upsample,
                                          &RandomNetwork::lookup,        &RandomNetwork::permute,
                                          &RandomNetwork::reshape,       &RandomNetwork::layer_norm,
                                          &RandomNetwork::group_norm,    &RandomNetwork::softmax,
                                          &RandomNetwork::matmul,        &RandomNetwork::attention,
                                          &RandomNetwork::pixel_shuffle, &RandomNetwork::pixel_unshuffle,
                                          &RandomNetwork::bilinear,      &RandomNetwork::transposed_conv};
    return (this->*kMethods[b_.integer(0, std::size(kMethods) - 1)])(x);
  }

  Made conv(const Made& x) { return b_.conv2d(x, some_conv(x)); }

  ConvOptions some_conv(const Made& x) {
    ConvOptions o;
    o.dynamic = dynamic_;
    o.out = pick({1, 4, 8, 17});
    o.kernel = {pick({1, 2, 3}), pick({1, 3, 5})};
    o.padding = {b_.integer(0, 2), b_.integer(0, 2), b_.integer(0, 2), b_.integer(0, 2)};
    o.stride = {b_.integer(1, 3), b_.integer(1, 2)};
    o.dilation = {b_.integer(1, 2), 1};
    o.bits = b_.integer(2, 8);
    o.bias = b_.coin();
    o.bias_f32 = b_.integer(0, 4) == 0;
    o.weight_zero_point = b_.integer(0, 3) == 0;
    o.weight_levels = b_.integer(0, 3) == 0;
    if (!dynamic_ && !o.weight_zero_point && b_.integer(0, 3) == 0) o.group_size = 4;
    o.activation = activation(7);
    o.fixed_point = !dynamic_ && o.group_size == 0 && !o.bias_f32 && b_.integer(0, 3) == 0;
    if (o.fixed_point) o.activation = activation(3);
    if (x.shape[0] % 2 == 0 && o.out % 2 == 0 && o.group_size == 0 && b_.coin()) o.groups = 2;
    while (x.shape[1] + o.padding[0] + o.padding[2] <= o.dilation[0] * (o.kernel[0] - 1)) ++o.padding[0];
    while (x.shape[2] + o.padding[1] + o.padding[3] <= o.dilation[1] * (o.kernel[1] - 1)) ++o.padding[3];
    return o;
  }

  Made transposed_conv(const Made& x) {
    if (x.shape[1] > 12 || x.shape[2] > 20) return x;
    const std::vector<int64_t> factor = {b_.integer(1, 3), b_.integer(1, 2)};
    const std::vector<int64_t> shape = {x.shape[0], (x.shape[1] - 1) * factor[0] + 1,
                                        (x.shape[2] - 1) * factor[1] + 1};
    const Made zeros = b_.moved("upsample_zeros2d", {x}, shape, {{"scale_factor", factor}});
    if (!dynamic_ && b_.coin()) {
      const Made other = second_branch(zeros);
      ConvOptions o = same_size(zeros);
      o.residual = &other;
      return b_.conv2d(zeros, o);
    }
    ConvOptions o = some_conv(zeros);
    o.stride = {1, b_.integer(1, 4) == 1 ? 2 : 1};
    o.dilation = {1, 1};
    return b_.conv2d(zeros, o);
  }

  ConvOptions same_size(const Made& x) {
    ConvOptions o;
    o.dynamic = dynamic_;
    o.out = x.shape[0];
    o.padding = {1, 1, 1, 1};
    o.activation = activation(7);
    return o;
  }

  Made depthwise(const Made& x) {
    ConvOptions o = same_size(x);
    o.fixed_point = !dynamic_ && b_.integer(0, 3) == 0;
    if (o.fixed_point) o.activation = activation(3);
    o.groups = x.shape[0];
    o.stride = {b_.integer(1, 2), b_.integer(1, 2)};
    return b_.conv2d(x, o);
  }

  Made residual(const Made& x) {
    if (dynamic_) return add(x);
    ConvOptions o = same_size(x);
    o.residual = &x;
    return b_.conv2d(x, o);
  }

  Made second_branch(const Made& x) { return b_.conv2d(x, same_size(x)); }

  Made pointwise(const std::string& op, const std::vector<Made>& inputs, float scale) {
    nlohmann::json attrs, roles = nlohmann::json::object();
    const Qparams q = b_.some_qparams(scale);
    if (!dynamic_ && b_.coin()) {
      const double a = inputs[0].scale, b = inputs[1].scale;
      return without_floats(op, inputs,
                            op == "add" ? std::vector{a / scale, b / scale} : std::vector{a * b / scale}, q);
    }
    b_.set_activation(b_.coin() ? "relu" : "hardswish", dynamic_ ? 1.0F : q.scale, 1, attrs, roles);
    return dynamic_ ? b_.reals(op, inputs, inputs[0].shape, attrs, roles)
                    : b_.codes(op, inputs, inputs[0].shape, q, attrs, roles);
  }

  Made without_floats(const std::string& op, const std::vector<Made>& inputs,
                      const std::vector<double>& factors, const Qparams& q,
                      std::optional<std::vector<int64_t>> shape = {},
                      nlohmann::json attrs = nlohmann::json::object()) {
    nlohmann::json roles = nlohmann::json::object();
    b_.set_fixed_point(factors, 1, q, attrs, roles);
    return b_.codes(op + "_fixed_point", inputs, shape.value_or(inputs[0].shape), q, attrs, roles);
  }

  Made add(const Made& x) {
    const Made y = second_branch(x);
    return pointwise("add", {x, y}, std::max(x.scale, y.scale) * 1.3F);
  }

  Made mul(const Made& x) {
    const Made y = second_branch(x);
    return pointwise("mul", {x, y}, x.scale * y.scale * 70.0F);
  }

  Made excite(const Made& x) {
    const bool of_pixels = b_.coin();
    ConvOptions o;
    o.dynamic = dynamic_;
    o.out = of_pixels ? 1 : x.shape[0];
    o.kernel = {1, 1};
    o.activation = "hardsigmoid";
    const Made gate = b_.conv2d(of_pixels ? x : global_pool(x), o);
    nlohmann::json attrs = {{"activation", "none"}, {"activation_args", nlohmann::json::array()}};
    const std::vector<Made> inputs = b_.coin() ? std::vector<Made>{x, gate} : std::vector<Made>{gate, x};
    if (!dynamic_ && b_.coin()) {
      const Qparams q = b_.some_qparams(x.scale * gate.scale * 60.0F);
      return without_floats("mul", inputs, {double{x.scale} * gate.scale / q.scale}, q, x.shape);
    }
    return dynamic_ ? b_.reals("mul", inputs, x.shape, attrs)
                    : b_.codes("mul", inputs, x.shape, b_.some_qparams(x.scale * gate.scale * 60.0F), attrs);
  }

  Made global_pool(const Made& x) {
    const std::vector<int64_t> size = {1, 1};
    return pooled("adaptive_avg_pool2d", x, {x.shape[0], 1, 1}, {{"output_size", size}});
  }

  Made pooled(const std::string& op, const Made& x, std::vector<int64_t> shape, nlohmann::json attrs) {
    if (!dynamic_ && b_.integer(0, 2) == 0) {
      return without_floats(op, {x}, {b_.real(0.1F, 1.0F)}, b_.some_qparams(x.scale * 0.7F), shape, attrs);
    }
    return dynamic_ ? b_.reals(op, {x}, shape, attrs)
                    : b_.codes(op, {x}, shape, b_.some_qparams(x.scale * 0.7F), attrs);
  }

  /// torch's output size, for windows with ceil_mode.
  static int64_t pooled_size(int64_t size, int64_t kernel, int64_t stride, int64_t pad, bool ceil_mode) {
    int64_t output = (size + 2 * pad - kernel + (ceil_mode ? stride - 1 : 0)) / stride + 1;
    if (ceil_mode && (output - 1) * stride >= size + pad) --output;
    return output;
  }

  Made pool(const std::string& op, const Made& x, nlohmann::json attrs) {
    const int64_t kernel = std::min({b_.integer(1, 3), x.shape[1], x.shape[2]});
    const int64_t stride = b_.integer(1, 3);
    const int64_t pad = b_.integer(0, kernel / 2);
    const bool ceil_mode = b_.coin();
    attrs.update({{"kernel_size", {kernel, kernel}},
                  {"stride", {stride, stride}},
                  {"padding", {pad, pad}},
                  {"ceil_mode", ceil_mode}});
    const std::vector<int64_t> shape = {x.shape[0], pooled_size(x.shape[1], kernel, stride, pad, ceil_mode),
                                        pooled_size(x.shape[2], kernel, stride, pad, ceil_mode)};
    return op == "max_pool2d" ? b_.moved(op, {x}, shape, attrs) : pooled(op, x, shape, attrs);
  }
  Made max_pool(const Made& x) { return pool("max_pool2d", x, {{"dilation", {1, 1}}}); }
  Made avg_pool(const Made& x) {
    return pool("avg_pool2d", x,
                {{"count_include_pad", b_.coin()}, {"divisor", b_.integer(0, 3) == 0 ? 5 : 0}});
  }

  Made cat(const Made& x) {
    const Made y = max_pool_same(x);
    const Made last = b_.coin() ? x : constant_like(x);
    const auto dim = static_cast<size_t>(b_.integer(1, 3));
    std::vector<int64_t> shape = x.shape;
    shape[dim - 1] *= 3;
    return shape[dim - 1] > 64 ? y : b_.moved("cat", {x, y, last}, shape, {{"dim", dim}});
  }

  /// Real numbers, or their codes where x is codes.
  Made constant_like(const Made& x) {
    const Made constant = b_.constant(x.shape);
    return x.is_float ? constant : b_.quantize(constant, {x.scale, x.zero_point, x.qmin, x.qmax});
  }

  Made max_pool_same(const Made& x) {
    return b_.moved("max_pool2d", {x}, x.shape,
                    {{"kernel_size", {3, 3}},
                     {"stride", {1, 1}},
                     {"padding", {1, 1}},
                     {"dilation", {1, 1}},
                     {"ceil_mode", false}});
  }

  Made slice(const Made& x) {
    const int64_t start = b_.integer(0, x.shape[0] - 1);
    const int64_t end = b_.integer(start + 1, x.shape[0]);
    return b_.moved("slice", {x}, {end - start, x.shape[1], x.shape[2]},
                    {{"dim", 1}, {"start", start}, {"end", end}});
  }

  Made shuffle(const Made& x) {
    const int64_t groups = x.shape[0] % 4 == 0 ? 4 : 1;
    return b_.moved("channel_shuffle", {x}, x.shape, {{"groups", groups}});
  }

  Made permute(const Made& x) {
    const std::vector<std::vector<int64_t>> orders = {{0, 2, 3, 1}, {0, 1, 3, 2}, {0, 3, 1, 2}};
    const auto& dims = orders[static_cast<size_t>(b_.integer(0, 2))];
    std::vector<int64_t> shape;
    for (size_t i = 1; i < 4; ++i) shape.push_back(x.shape[static_cast<size_t>(dims[i] - 1)]);
    return b_.moved("permute", {x}, shape, {{"dims", dims}});
  }

  Made reshape(const Made& x) {
    const int64_t c = x.shape[0] % 2 == 0 ? x.shape[0] / 2 : x.shape[0];
    const std::vector<int64_t> shape = {c, x.shape[1] * x.shape[2], x.shape[0] / c};
    if (b_.integer(0, 1) == 0) return b_.moved("reshape", {x}, shape, {{"sample_shape", shape}});
    const std::vector<int64_t> sequence = {c, shape[1] * shape[2]};  // and back
    Made y = b_.moved("reshape", {x}, sequence, {{"sample_shape", sequence}});
    if (b_.coin()) y = b_.moved("permute", {y}, {sequence[1], sequence[0]}, {{"dims", {0, 2, 1}}});
    return b_.moved("reshape", {y}, shape, {{"sample_shape", shape}});
  }

  Made pad(const Made& x) {
    std::vector<int64_t> p = {b_.integer(0, 2), b_.integer(0, 1), b_.integer(0, 1), b_.integer(0, 2)};
    const bool from_image = x.shape[1] > 2 && x.shape[2] > 2 && b_.integer(0, 1) == 0;
    if (from_image) {
      const char* mode =
          std::array{"reflect", "replicate", "circular"}[static_cast<size_t>(b_.integer(0, 2))];
      return b_.moved("pad", {x}, {x.shape[0], x.shape[1] + p[0] + p[2], x.shape[2] + p[1] + p[3]},
                      {{"padding", p}, {"mode", mode}});
    }
    for (size_t side = 0; side < 4; ++side) {  // at most one row before and one after is left out
      if (x.shape[1 + side % 2] > 3 && b_.integer(0, 2) == 0) p[side] = -1;
    }
    return b_.moved("pad", {x}, {x.shape[0], x.shape[1] + p[0] + p[2], x.shape[2] + p[1] + p[3]},
                    {{"padding", p}});
  }

  Made pixel_shuffle(const Made& x) {
    if (x.shape[1] > 12 || x.shape[2] > 12) return x;
    const std::vector<int64_t> wide = {x.shape[0] * 4, x.shape[1], x.shape[2]};
    const Made y = x.shape[0] % 4 == 0 ? x : b_.moved("cat", {x, x, x, x}, wide, {{"dim", 1}});
    return b_.moved("pixel_shuffle", {y}, {y.shape[0] / 4, x.shape[1] * 2, x.shape[2] * 2},
                    {{"upscale_factor", 2}});
  }

  Made pixel_unshuffle(const Made& x) {
    const int64_t factor = x.shape[1] % 2 == 0 && x.shape[2] % 2 == 0 && x.shape[0] <= 16 ? 2 : 1;
    return b_.moved("pixel_unshuffle", {x},
                    {x.shape[0] * factor * factor, x.shape[1] / factor, x.shape[2] / factor},
                    {{"downscale_factor", factor}});
  }

  Made upsample(const Made& x) {
    if (x.shape[1] > 12) return x;
    const std::vector<int64_t> factor = {2, b_.integer(1, 2)};
    return b_.moved("upsample_nearest2d", {x}, {x.shape[0], x.shape[1] * 2, x.shape[2] * factor[1]},
                    {{"scale_factor", factor}});
  }

  Made real_function(const Made& x) {
    const std::string names[] = {"sigmoid",   "silu",   "tanh",       "gelu",
                                 "gelu_tanh", "square", "mul_scalar", "divide_by_scalar"};
    const std::string& name = names[b_.integer(0, 7)];
    nlohmann::json attrs = {{"activation", name}, {"activation_args", nlohmann::json::array()}};
    if (name.ends_with("scalar")) attrs["activation_args"] = {1.7};
    return b_.reals("activation", {x}, x.shape, attrs);
  }

  Made bilinear(const Made& x) {
    const std::vector<int64_t> size = {b_.integer(1, 14), b_.integer(1, 14)};
    return b_.moved("upsample_bilinear2d", {x}, {x.shape[0], size[0], size[1]},
                    {{"size", size}, {"align_corners", b_.coin()}});
  }

  Made lookup(const Made& x) {
    nlohmann::json roles = nlohmann::json::object();
    if (dynamic_ && b_.coin()) return real_function(x);
    if (dynamic_) {
      nlohmann::json attrs;
      b_.set_activation(activation(7), 1.0F, x.shape[0], attrs, roles);
      return b_.reals("activation", {x}, x.shape, attrs, roles);
    }
    const std::string table = "table" + x.name;
    std::vector<uint8_t> values(256);
    for (uint8_t& value : values) value = static_cast<uint8_t>(b_.integer(0, 255));
    b_.graph.tensors[table] = Tensor::of(DType::kU8, {256}, values);
    return b_.codes("lookup", {x}, x.shape, b_.some_qparams(x.scale), nlohmann::json::object(),
                    {{"table", table}});
  }

  Made layer_norm(const Made& x) {
    if (dynamic_) return b_.layer_norm(x, std::nullopt);
    return b_.layer_norm(b_.dequantize(x), b_.some_qparams(0.03F));
  }

  Made group_norm(const Made& x) {
    const int64_t groups = x.shape[0] % 2 == 0 && b_.coin() ? x.shape[0] / 2 : b_.coin() ? x.shape[0] : 1;
    if (dynamic_) return b_.group_norm(x, groups, std::nullopt);
    return b_.group_norm(b_.dequantize(x), groups, b_.some_qparams(0.03F));
  }

  Made real_of(const Made& x) { return x.is_float ? x : b_.dequantize(x); }
  Made codes_of(const Made& x) { return x.is_float ? b_.quantize(x, b_.some_qparams(0.03F)) : x; }

  Made softmax(const Made& x) {
    const bool log = dynamic_ && b_.coin();
    return b_.softmax(real_of(x), dynamic_ ? std::nullopt : std::optional(shares(x.shape[0])), log);
  }

  /// Of all shares, or of small ones: the larger are cut off.
  Qparams shares(int64_t channels) {
    const auto zero_point = static_cast<int32_t>(b_.integer(0, 60));
    return {b_.coin() ? 1.0F / 256 : 0.02F / static_cast<float>(channels), zero_point};
  }

  /// With another image of as many rows, wider or narrower, or with itself.
  Made matmul(const Made& x) {
    const Made a = codes_of(x);
    Made b = b_.integer(0, 3) == 0 ? a : codes_of(second_branch(x));
    const int64_t left = b_.integer(a.shape[2] > 1 ? -1 : 0, 3), right = b_.integer(0, 20);
    const std::vector<int64_t> padding = {0, left, 0, right};
    if (b_.coin()) {
      b = b_.moved("pad", {b}, {b.shape[0], b.shape[1], b.shape[2] + left + right}, {{"padding", padding}});
    }
    return b_.coin() ? product(a, b, dynamic_) : product(b, a, dynamic_);
  }

  Made product(const Made& a, const Made& b, bool real) {
    const float deviation = std::sqrt(static_cast<float>(a.shape[0]));
    const double factor = b_.coin() ? 1.0 : 1.0 / deviation;
    const float scale = a.scale * b.scale * static_cast<float>(factor) * deviation * b_.real(20.0F, 90.0F);
    return b_.matmul(a, b, factor, real ? std::nullopt : std::optional(b_.some_qparams(scale)));
  }

  /// Each pixel looks at those of its row.
  Made attention(const Made& x) {
    const Made query = codes_of(second_branch(x)), key = codes_of(x), value = codes_of(second_branch(x));
    const Made scores = product(query, key, b_.coin());
    const Made weights = b_.softmax(real_of(scores), shares(scores.shape[0]));
    const Made transposed = b_.moved("permute", {value}, {value.shape[2], value.shape[1], value.shape[0]},
                                     {{"dims", {0, 3, 2, 1}}});
    return product(weights, transposed, dynamic_);
  }

  Made flatten(const Made& x) {
    return b_.moved("flatten", {x}, {GraphBuilder::product(x.shape)}, {{"start_dim", 1}});
  }

  Made head(Made x) {
    switch (b_.integer(0, 4)) {
      case 0:  // a spatial output
        return dynamic_ ? x : b_.dequantize(x);
      case 1: {  // features that must be put into NCHW order
        const Made y = flatten(x);
        return dynamic_ ? y : b_.dequantize(y);
      }
      case 2:
        x = flatten(global_pool(x));
        break;
      default:
        x = flatten(x);
    }
    ConvOptions o;
    o.dynamic = dynamic_;
    if (b_.coin()) {
      o.out = 20;
      o.activation = "relu";
      o.group_size = !dynamic_ && b_.coin() ? 8 : 0;
      x = b_.linear(x, o);
      o.group_size = 0;
    }
    o.out = 10;
    o.activation = "none";
    o.float_output = true;
    x = b_.linear(x, o);
    return b_.coin() ? x : b_.softmax(x, std::nullopt, b_.coin());
  }

  GraphBuilder b_;
  bool dynamic_;
};

}  // namespace

Graph random_integer_network(unsigned seed) { return RandomNetwork(seed, false).make(); }
Graph random_dynamic_network(unsigned seed) { return RandomNetwork(seed, true).make(); }

Graph random_network_of_several_outputs(unsigned seed) {
  Graph graph = RandomNetwork(seed, seed % 2 == 0).make();
  std::mt19937 random(seed);
  nlohmann::json& nodes = graph.document["nodes"];
  const size_t count = nodes.size();
  nlohmann::json inner = nlohmann::json::array();
  for (int i = 0; i < 3; ++i) {
    const nlohmann::json node = nodes[random() % count];
    const std::string name = node["name"];
    if (node["output"]["dtype"] == "float32") {
      inner.push_back(name);
      continue;
    }
    const std::string real = name + ".real" + std::to_string(i);
    nodes.push_back({{"name", real},
                     {"op", "dequantize"},
                     {"inputs", {name}},
                     {"attrs", nlohmann::json::object()},
                     {"tensors", nlohmann::json::object()},
                     {"output", {{"dtype", "float32"}}}});
    inner.push_back(real);
  }
  const nlohmann::json output = graph.document["output"];
  using nlohmann::json;
  const json pairs = json::array({json::array({"input", "input"}), json::array({"again", output})});
  const nlohmann::json list = {{"list", inner}}, dict = {{"dict", pairs}};
  graph.document["output"] = {{"tuple", {output, list, dict}}};
  return graph;
}

}  // namespace ptqx::engine::testing
