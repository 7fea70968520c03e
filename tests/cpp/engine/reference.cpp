#include "reference.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <map>
#include <stdexcept>
#include <tuple>

#include "kernels/arith.h"
#include "kernels/real_function.h"

namespace ptqx::engine::testing {
namespace {

using nlohmann::json;

const std::map<std::string, kernels::RealFunction> kFunctions = {
    {"sigmoid", kernels::RealFunction::kSigmoid},     {"silu", kernels::RealFunction::kSilu},
    {"tanh", kernels::RealFunction::kTanh},           {"gelu", kernels::RealFunction::kGelu},
    {"gelu_tanh", kernels::RealFunction::kGeluTanh},  {"square", kernels::RealFunction::kSquare},
    {"mul_scalar", kernels::RealFunction::kMultiply}, {"divide_by_scalar", kernels::RealFunction::kDivide}};

/// One value of one sample. Codes are in `q`, real numbers in `f`; spatial ones in [c][h][w] order, and
/// sequences in [c][w].
struct Array {
  std::vector<int64_t> shape;
  bool is_float = true;
  std::vector<float> f;
  std::vector<int32_t> q;
  float scale = 1.0F;
  int32_t zero_point = 0, qmin = 0, qmax = 255;

  int64_t c() const { return shape[0]; }
  int64_t h() const { return shape.size() == 3 ? shape[1] : 1; }
  int64_t w() const { return shape.size() > 1 ? shape.back() : 1; }
  size_t at(int64_t channel, int64_t y, int64_t x) const {
    return static_cast<size_t>((channel * h() + y) * w() + x);
  }
  void resize(std::vector<int64_t> to) {
    shape = std::move(to);
    (is_float ? f.resize(static_cast<size_t>(GraphBuilder::product(shape)))
              : q.resize(static_cast<size_t>(GraphBuilder::product(shape))));
  }
  /// Copies one element, whichever kind it is.
  void copy(size_t to, const Array& from, size_t index) {
    if (is_float) {
      f[to] = from.f[index];
    } else {
      q[to] = from.q[index];
    }
  }
  void put(size_t to, float t) {
    if (is_float) {
      f[to] = t;
    } else {
      q[to] = kernels::round_and_clamp(t, zero_point, qmin, qmax);
    }
  }
  size_t size() const { return is_float ? f.size() : q.size(); }
};

class Reference {
 public:
  explicit Reference(const Graph& graph) : graph_(graph) {}

  void run(const std::vector<float>& input) {
    Array x;
    x.shape = graph_.document["input"]["shape"].get<std::vector<int64_t>>();
    x.f = input;
    values_["input"] = x;
    for (const json& node : graph_.document["nodes"]) values_[node["name"]] = run_node(node);
  }

  const std::vector<float>& floats(const std::string& name) const { return values_.at(name).f; }

 private:
  const Array& in(const json& node, size_t index = 0) const { return values_.at(node["inputs"][index]); }

  template <class T>
  std::vector<T> tensor(const json& node, const char* role) const {
    if (!node["tensors"].contains(role)) return {};
    return graph_.tensors.at(node["tensors"][role]).as<T>();
  }

  kernels::ActivationArgs activation(const json& node, std::vector<float>& slopes) const {
    using kernels::Activation;
    const std::map<std::string, Activation> kinds = {{"none", Activation::kNone},
                                                     {"clip", Activation::kClip},
                                                     {"leaky_relu", Activation::kLeakyRelu},
                                                     {"prelu", Activation::kPrelu},
                                                     {"hardsigmoid", Activation::kHardsigmoid},
                                                     {"hardswish", Activation::kHardswish}};
    std::vector<float> args;
    for (const json& arg : node["attrs"].value("activation_args", json::array())) {
      args.push_back(arg == "inf" ? std::numeric_limits<float>::infinity() : arg.get<float>());
    }
    kernels::ActivationArgs result{.kind = kinds.at(node["attrs"].value("activation", "none"))};
    slopes = tensor<float>(node, "slopes");
    result.slopes = slopes.data();
    if (result.kind == Activation::kClip) {
      result.low = args[0];
      result.high = args[1];
    } else if (!args.empty()) {
      result.slope = args[0];
      if (args.size() > 1) result.offset = args[1];
      if (args.size() > 2) result.high = args[2];
    }
    return result;
  }

  Array empty_output(const json& node) const {
    Array y;
    const json& output = node["output"];
    y.is_float = output["dtype"] == "float32";
    if (!y.is_float) {
      y.scale = graph_.tensors.at(output["scale"]).as<float>()[0];
      y.zero_point = graph_.tensors.at(output["zero_point"]).as<int32_t>()[0];
      y.qmin = output["qmin"];
      y.qmax = output["qmax"];
    }
    return y;
  }

  static bool is_fixed_point(const json& node) {
    return node["op"].get<std::string>().ends_with("_fixed_point");
  }

  /// Without floats, but here of 64 bits and more: exact products, and the processor's rounding half to even.
  void put_fixed_point(const json& node, Array& y, size_t index, int64_t channel,
                       const std::vector<int64_t>& terms) const {
    const auto multiplier = tensor<int32_t>(node, "multiplier"), shift = tensor<int32_t>(node, "shift");
    const size_t columns = multiplier.size() / terms.size();
    const auto c = static_cast<size_t>(channel);
    long double sum = 0.0L;
    for (size_t i = 0; i < terms.size(); ++i) {
      sum += static_cast<long double>(terms[i]) * multiplier[i * columns + (columns == 1 ? 0 : c)];
    }
    const long double rounded = std::nearbyint(std::ldexp(sum, -shift[shift.size() == 1 ? 0 : c]));
    const long double code = rounded + y.zero_point;
    const json& attrs = node["attrs"];
    y.q[index] = static_cast<int32_t>(std::clamp<long double>(code, attrs["low"], attrs["high"]));
  }

  Array run_node(const json& node) const {
    using Method = void (Reference::*)(const json&, Array&) const;
    static const std::map<std::string, Method> methods = {
        {"quantize", &Reference::quantize},
        {"dequantize", &Reference::dequantize},
        {"conv2d", &Reference::conv2d},
        {"conv2d_fixed_point", &Reference::conv2d},
        {"linear", &Reference::conv2d},
        {"linear_fixed_point", &Reference::conv2d},
        {"binary_conv2d", &Reference::conv2d},
        {"binary_linear", &Reference::conv2d},
        {"conv2d_dynamic", &Reference::conv2d},
        {"linear_dynamic", &Reference::conv2d},
        {"max_pool2d", &Reference::max_pool2d},
        {"avg_pool2d", &Reference::avg_pool2d},
        {"avg_pool2d_fixed_point", &Reference::avg_pool2d},
        {"adaptive_avg_pool2d", &Reference::adaptive_avg_pool2d},
        {"adaptive_avg_pool2d_fixed_point", &Reference::adaptive_avg_pool2d},
        {"add", &Reference::add},
        {"add_fixed_point", &Reference::add},
        {"mul", &Reference::mul},
        {"mul_fixed_point", &Reference::mul},
        {"activation", &Reference::activate},
        {"lookup", &Reference::lookup},
        {"layer_norm", &Reference::layer_norm},
        {"group_norm", &Reference::group_norm},
        {"softmax", &Reference::softmax},
        {"matmul", &Reference::matmul},
        {"constant", &Reference::constant},
        {"cat", &Reference::cat},
        {"flatten", &Reference::flatten},
        {"reshape", &Reference::reshape},
        {"permute", &Reference::permute},
        {"slice", &Reference::slice},
        {"channel_shuffle", &Reference::channel_shuffle},
        {"pad", &Reference::pad},
        {"pixel_shuffle", &Reference::pixel_shuffle},
        {"pixel_unshuffle", &Reference::pixel_unshuffle},
        {"upsample_nearest2d", &Reference::upsample_nearest2d},
        {"upsample_bilinear2d", &Reference::upsample_bilinear2d},
        {"upsample_zeros2d", &Reference::upsample_zeros2d}};
    Array y = empty_output(node);
    (this->*methods.at(node["op"]))(node, y);
    return y;
  }

  void quantize(const json& node, Array& y) const {
    y.resize(in(node).shape);
    for (size_t i = 0; i < y.size(); ++i) {
      y.q[i] = kernels::quantize(in(node).f[i], y.scale, y.zero_point, y.qmin, y.qmax);
    }
  }

  void dequantize(const json& node, Array& y) const {
    const Array& x = in(node);
    y.resize(x.shape);
    for (size_t i = 0; i < y.size(); ++i) y.f[i] = kernels::dequantize(x.q[i], x.scale, x.zero_point);
  }

  std::vector<int32_t> weight_codes(const json& node, size_t rows, size_t k) const {
    const int bits = node["attrs"]["weight_bits"];
    const std::vector<uint8_t> bytes = tensor<uint8_t>(node, "weight");
    const size_t row_bytes = bytes.size() / rows;
    std::vector<int32_t> codes(rows * k);
    for (size_t row = 0; row < rows; ++row) {
      for (size_t i = 0; i < k; ++i) {
        int code = 0;
        for (int b = 0; b < bits; ++b) {
          const size_t bit = i * static_cast<size_t>(bits) + static_cast<size_t>(b);
          code |= (bytes[row * row_bytes + bit / 8] >> (bit % 8) & 1) << b;
        }
        codes[row * k + i] = code >= 1 << (bits - 1) ? code - (1 << bits) : code;
      }
    }
    if (node["tensors"].contains("weight_levels")) {
      const std::vector<int8_t> levels = tensor<int8_t>(node, "weight_levels");
      const size_t count = size_t{1} << bits;
      for (size_t i = 0; i < codes.size(); ++i) {
        const size_t row = levels.size() == count ? 0 : i / k;
        codes[i] = levels[row * count + static_cast<size_t>(codes[i] + static_cast<int>(count / 2))];
      }
    }
    return codes;
  }

  void conv2d(const json& node, Array& y) const {
    Array x = in(node);
    const json& attrs = node["attrs"];
    std::vector<int64_t> weight_shape = attrs["weight_shape"];
    const bool linear = weight_shape.size() == 2;
    if (linear) weight_shape.insert(weight_shape.end(), {1, 1});
    const auto ints = [&](const char* name, std::vector<int64_t> otherwise) {
      return linear ? otherwise : attrs[name].get<std::vector<int64_t>>();
    };
    const auto stride = ints("stride", {1, 1}), padding = ints("padding", {0, 0, 0, 0}),
               dilation = ints("dilation", {1, 1});
    const int64_t groups = linear ? 1 : attrs["groups"].get<int64_t>();
    const bool dynamic = x.is_float;
    if (dynamic) {  // ONNX DynamicQuantizeLinear
      float low = 0.0F, high = 0.0F;
      for (const float value : x.f) low = std::min(low, value), high = std::max(high, value);
      x.scale = low == high ? 1.0F : (high - low) / 255.0F;
      x.zero_point = low == high ? 0 : kernels::round_and_clamp(0.0F - low / x.scale, 0, 0, 255);
      x.q.resize(x.f.size());
      for (size_t i = 0; i < x.q.size(); ++i)
        x.q[i] = kernels::quantize(x.f[i], x.scale, x.zero_point, 0, 255);
    }
    const int64_t out = weight_shape[0], in_per_group = weight_shape[1], kh = weight_shape[2],
                  kw = weight_shape[3];
    const auto weight =
        weight_codes(node, static_cast<size_t>(out), static_cast<size_t>(in_per_group * kh * kw));
    const auto weight_scale = tensor<float>(node, "weight_scale");
    const auto weight_zero_point = tensor<int32_t>(node, "weight_zero_point");
    std::vector<int32_t> bias;
    std::vector<float> bias_f32;
    if (node["tensors"].contains("bias")) {
      const bool is_float = graph_.tensors.at(node["tensors"]["bias"]).dtype == DType::kF32;
      (is_float ? bias_f32 = tensor<float>(node, "bias") : std::vector<float>());
      if (!is_float) bias = tensor<int32_t>(node, "bias");
    }
    std::vector<float> slopes;
    const kernels::ActivationArgs args = activation(node, slopes);
    const int64_t group_size =
        attrs["group_size"].get<int64_t>() > 0 ? attrs["group_size"].get<int64_t>() : in_per_group;
    const int64_t slices = (in_per_group + group_size - 1) / group_size;
    const bool has_residual = node["inputs"].size() > 1;

    const auto accumulate = [&](int64_t oc, int64_t oy, int64_t ox, int64_t slice) {
      int32_t acc = 0;
      for (int64_t i = slice * group_size; i < std::min((slice + 1) * group_size, in_per_group); ++i) {
        const int64_t ic = oc / (out / groups) * in_per_group + i;
        for (int64_t ky = 0; ky < kh; ++ky) {
          for (int64_t kx = 0; kx < kw; ++kx) {
            const int64_t iy = oy * stride[0] - padding[0] + ky * dilation[0];
            const int64_t ix = ox * stride[1] - padding[1] + kx * dilation[1];
            if (iy < 0 || iy >= x.h() || ix < 0 || ix >= x.w()) continue;
            const int32_t z = weight_zero_point.empty() ? 0 : weight_zero_point[static_cast<size_t>(oc)];
            const size_t index = static_cast<size_t>(((oc * in_per_group + i) * kh + ky) * kw + kx);
            acc += (x.q[x.at(ic, iy, ix)] - x.zero_point) * (weight[index] - z);
          }
        }
      }
      return acc;
    };
    const auto extent = [&](int64_t size, size_t axis, int64_t kernel) {
      return (size + padding[axis] + padding[axis + 2] - dilation[axis] * (kernel - 1) - 1) / stride[axis] +
             1;
    };
    y.resize(linear ? std::vector<int64_t>{out}
                    : std::vector<int64_t>{out, extent(x.h(), 0, kh), extent(x.w(), 1, kw)});
    for (int64_t oc = 0; oc < out; ++oc) {
      const auto o = static_cast<size_t>(oc);
      for (int64_t oy = 0; oy < y.h(); ++oy) {
        for (int64_t ox = 0; ox < y.w(); ++ox) {
          if (is_fixed_point(node)) {
            const int64_t acc = accumulate(oc, oy, ox, 0) + (bias.empty() ? 0 : bias[o]);
            put_fixed_point(node, y, y.at(oc, oy, ox), oc, {acc});
            continue;
          }
          float t = 0.0F;
          for (int64_t slice = 0; slice < slices; ++slice) {
            const float s =
                weight_scale[weight_scale.size() == 1 ? 0 : static_cast<size_t>(oc * slices + slice)];
            int32_t acc = accumulate(oc, oy, ox, slice);
            if (!bias.empty()) acc += bias[o];
            t += static_cast<float>(acc) * kernels::requantize_multiplier(x.scale, s, y.scale);
          }
          if (!bias_f32.empty()) t += bias_f32[o] / y.scale;
          const size_t index = y.at(oc, oy, ox);
          if (has_residual) {
            const Array& r = in(node, 1);
            t += static_cast<float>(r.q[index] - r.zero_point) * (r.scale / y.scale);
          }
          y.put(index, kernels::activate(t, args, oc));
        }
      }
    }
  }

  struct Window {
    std::vector<int64_t> kernel, stride, padding, dilation;
    int64_t taps_end(int64_t output, size_t axis, int64_t size) const {  // of the window with its padding
      return std::min(output * stride[axis] - padding[axis] + kernel[axis], size + padding[axis]);
    }
  };

  /// torch.nn.functional: the output size with ceil_mode, and visit(y, index of y, window's elements).
  template <class Visit>
  void pool(const json& node, Array& y, Visit visit) const {
    const Array& x = in(node);
    const json& attrs = node["attrs"];
    const Window win{attrs["kernel_size"], attrs["stride"], attrs["padding"],
                     attrs.value("dilation", std::vector<int64_t>{1, 1})};
    const bool ceil_mode = attrs.value("ceil_mode", false);
    const auto extent = [&](int64_t size, size_t axis) {
      const int64_t room = size + 2 * win.padding[axis] - win.dilation[axis] * (win.kernel[axis] - 1) - 1;
      int64_t output = (room + (ceil_mode ? win.stride[axis] - 1 : 0)) / win.stride[axis] + 1;
      if (ceil_mode && (output - 1) * win.stride[axis] >= size + win.padding[axis]) --output;
      return output;
    };
    y.resize({x.c(), extent(x.h(), 0), extent(x.w(), 1)});
    for (int64_t c = 0; c < y.c(); ++c) {
      for (int64_t oy = 0; oy < y.h(); ++oy) {
        for (int64_t ox = 0; ox < y.w(); ++ox) {
          std::vector<size_t> inside;
          for (int64_t ky = 0; ky < win.kernel[0]; ++ky) {
            for (int64_t kx = 0; kx < win.kernel[1]; ++kx) {
              const int64_t iy = oy * win.stride[0] - win.padding[0] + ky * win.dilation[0];
              const int64_t ix = ox * win.stride[1] - win.padding[1] + kx * win.dilation[1];
              if (iy >= 0 && iy < x.h() && ix >= 0 && ix < x.w()) inside.push_back(x.at(c, iy, ix));
            }
          }
          const int64_t padded = (win.taps_end(oy, 0, x.h()) - oy * win.stride[0] + win.padding[0]) *
                                 (win.taps_end(ox, 1, x.w()) - ox * win.stride[1] + win.padding[1]);
          visit(y.at(c, oy, ox), inside, padded);
        }
      }
    }
  }

  void max_pool2d(const json& node, Array& y) const {
    pool(node, y, [&](size_t index, const std::vector<size_t>& inside, int64_t) {
      const Array& x = in(node);
      y.copy(index, x, inside[0]);
      for (const size_t i : inside) {
        if (y.is_float ? x.f[i] > y.f[index] : x.q[i] > y.q[index]) y.copy(index, x, i);
      }
    });
  }

  void put_average(const json& node, Array& y, size_t index, const Array& x,
                   const std::vector<size_t>& elements, int64_t count) const {
    float f32 = 0.0F;
    int32_t s32 = 0;
    for (const size_t i : elements) x.is_float ? void(f32 += x.f[i]) : void(s32 += x.q[i] - x.zero_point);
    if (is_fixed_point(node)) return put_fixed_point(node, y, index, 0, {s32});
    const float ratio = x.scale / y.scale;
    y.put(index, x.is_float ? f32 / static_cast<float>(count)
                            : static_cast<float>(s32) * (ratio / static_cast<float>(count)));
  }

  void avg_pool2d(const json& node, Array& y) const {
    pool(node, y, [&](size_t index, const std::vector<size_t>& inside, int64_t padded) {
      int64_t count =
          node["attrs"].value("count_include_pad", true) ? padded : static_cast<int64_t>(inside.size());
      if (const int64_t divisor = node["attrs"].value("divisor", 0); divisor != 0) count = divisor;
      put_average(node, y, index, in(node), inside, count);
    });
  }

  void adaptive_avg_pool2d(const json& node, Array& y) const {
    const Array& x = in(node);
    const std::vector<int64_t> size = node["attrs"]["output_size"];
    y.resize({x.c(), size[0], size[1]});
    for (int64_t c = 0; c < y.c(); ++c) {
      for (int64_t oy = 0; oy < y.h(); ++oy) {
        for (int64_t ox = 0; ox < y.w(); ++ox) {
          std::vector<size_t> elements;
          for (int64_t iy = oy * x.h() / y.h(); iy * y.h() < (oy + 1) * x.h(); ++iy) {
            for (int64_t ix = ox * x.w() / y.w(); ix * y.w() < (ox + 1) * x.w(); ++ix)
              elements.push_back(x.at(c, iy, ix));
          }
          put_average(node, y, y.at(c, oy, ox), x, elements, static_cast<int64_t>(elements.size()));
        }
      }
    }
  }

  void add(const json& node, Array& y) const {
    const Array& a = in(node, 0);
    const Array& b = in(node, 1);
    std::vector<float> slopes;
    const kernels::ActivationArgs args = activation(node, slopes);
    y.resize(a.shape);
    for (size_t i = 0; i < y.size(); ++i) {
      if (is_fixed_point(node)) {
        put_fixed_point(node, y, i, 0, {a.q[i] - a.zero_point, b.q[i] - b.zero_point});
        continue;
      }
      const float left =
          y.is_float ? a.f[i] : static_cast<float>(a.q[i] - a.zero_point) * (a.scale / y.scale);
      const float right =
          y.is_float ? b.f[i] : static_cast<float>(b.q[i] - b.zero_point) * (b.scale / y.scale);
      const float sum = left + right;
      y.put(i, kernels::activate(sum, args, 0));
    }
  }

  void mul(const json& node, Array& y) const {
    const Array& a = in(node, 0);
    const Array& b = in(node, 1);
    std::vector<float> slopes;
    const kernels::ActivationArgs args = activation(node, slopes);
    y.resize(a.size() >= b.size() ? a.shape : b.shape);
    const size_t per_channel = y.size() / static_cast<size_t>(y.c());
    for (size_t i = 0; i < y.size(); ++i) {
      const auto index = [&](const Array& x) {
        const bool of_pixels = x.c() == 1 && x.size() == per_channel;
        return x.size() == y.size() ? i : of_pixels ? i % per_channel : i / per_channel;
      };
      const size_t ia = index(a), ib = index(b);
      if (is_fixed_point(node)) {
        put_fixed_point(node, y, i, 0, {int64_t{a.q[ia] - a.zero_point} * int64_t{b.q[ib] - b.zero_point}});
        continue;
      }
      const float multiplier = kernels::requantize_multiplier(a.scale, b.scale, y.scale);
      const float t =
          y.is_float ? a.f[ia] * b.f[ib]
                     : static_cast<float>((a.q[ia] - a.zero_point) * (b.q[ib] - b.zero_point)) * multiplier;
      y.put(i, kernels::activate(t, args, 0));
    }
  }

  void activate(const json& node, Array& y) const {
    const std::string name = node["attrs"].value("activation", "none");
    const auto function = kFunctions.find(name);
    if (function != kFunctions.end()) return apply(function->second, node, y);
    std::vector<float> slopes;
    const kernels::ActivationArgs args = activation(node, slopes);
    y.resize(in(node).shape);
    for (size_t i = 0; i < y.size(); ++i) {
      y.f[i] = kernels::activate(in(node).f[i], args,
                                 static_cast<int64_t>(i / (y.size() / static_cast<size_t>(y.c()))));
    }
  }

  void apply(kernels::RealFunction function, const json& node, Array& y) const {
    const std::vector<double> numbers = node["attrs"]["activation_args"];
    const double number = numbers.empty() ? 0.0 : numbers[0];
    y.resize(in(node).shape);
    const auto count = static_cast<int64_t>(y.size());
    kernels::real_function_rows().front().function(function, number, in(node).f.data(), count, y.f.data());
  }

  void lookup(const json& node, Array& y) const {
    const std::vector<uint8_t> table = tensor<uint8_t>(node, "table");
    y.resize(in(node).shape);
    for (size_t i = 0; i < y.size(); ++i) y.q[i] = table[static_cast<size_t>(in(node).q[i])];
  }

  void layer_norm(const json& node, Array& y) const {
    const Array& x = in(node);
    const auto weight = tensor<float>(node, "weight"), bias = tensor<float>(node, "bias");
    const double eps = node["attrs"]["eps"];
    y.resize(x.shape);
    for (size_t pixel = 0; pixel < static_cast<size_t>(x.h() * x.w()); ++pixel) {
      const auto value = [&](size_t c) { return x.f[c * static_cast<size_t>(x.h() * x.w()) + pixel]; };
      double sums[16] = {}, squares[16] = {};
      for (size_t c = 0; c < weight.size(); ++c) {
        sums[c % 16] += value(c);
        squares[c % 16] += static_cast<double>(value(c)) * value(c);
      }
      const double count = static_cast<double>(weight.size());
      const double mean = kernels::sum_lanes(sums) / count;
      const double variance = std::max(kernels::sum_lanes(squares) / count - mean * mean, 0.0);
      const auto inverse_deviation = static_cast<float>(1.0 / std::sqrt(variance + eps));
      for (size_t c = 0; c < weight.size(); ++c) {
        const float centered = value(c) - static_cast<float>(mean);
        const float t = centered * inverse_deviation * weight[c] + bias[c];
        y.put(c * static_cast<size_t>(x.h() * x.w()) + pixel, y.is_float ? t : t / y.scale);
      }
    }
  }

  void group_norm(const json& node, Array& y) const {
    const Array& x = in(node);
    const auto weight = tensor<float>(node, "weight"), bias = tensor<float>(node, "bias");
    const int64_t groups = node["attrs"]["groups"], group = x.c() / groups;
    y.resize(x.shape);
    for (int64_t first = 0; first < x.c(); first += group) {
      double sum = 0.0, square = 0.0;
      for (int64_t c = first; c < first + group; ++c) {
        double channel = 0.0, channel_square = 0.0;
        for (int64_t h = 0; h < x.h(); ++h) {
          double row = 0.0, row_square = 0.0;
          for (int64_t w = 0; w < x.w(); ++w) {
            const double value = x.f[x.at(c, h, w)];
            row += value;
            row_square += value * value;
          }
          channel += row;
          channel_square += row_square;
        }
        sum += channel;
        square += channel_square;
      }
      const auto count = static_cast<double>(group * x.h() * x.w());
      const double mean = sum / count;
      const double variance = std::max(square / count - mean * mean, 0.0);
      const double eps = node["attrs"]["eps"];
      const auto inverse_deviation = static_cast<float>(1.0 / std::sqrt(variance + eps));
      const auto pixels = static_cast<size_t>(x.h() * x.w());
      for (size_t i = static_cast<size_t>(first) * pixels; i < static_cast<size_t>(first + group) * pixels;
           ++i) {
        const float centered = x.f[i] - static_cast<float>(mean);
        const float t = centered * inverse_deviation * weight[i / pixels] + bias[i / pixels];
        y.put(i, y.is_float ? t : t / y.scale);
      }
    }
  }

  void softmax(const json& node, Array& y) const {
    const Array& x = in(node);
    const bool log = node["attrs"].value("log", false);
    y.resize(x.shape);
    const auto channels = static_cast<size_t>(x.c()), pixels = static_cast<size_t>(x.h() * x.w());
    for (size_t pixel = 0; pixel < pixels; ++pixel) {
      const auto value = [&](size_t c) { return double{x.f[c * pixels + pixel]}; };
      double largest = value(0);
      for (size_t c = 1; c < channels; ++c) largest = std::max(largest, value(c));
      double lanes[16] = {};
      for (size_t c = 0; c < channels; ++c) lanes[c % 16] += std::exp(value(c) - largest);
      const double sum = kernels::sum_lanes(lanes);
      for (size_t c = 0; c < channels; ++c) {
        const double shifted = value(c) - largest;
        const auto t = static_cast<float>(log ? shifted - std::log(sum) : std::exp(shifted) / sum);
        y.put(c * pixels + pixel, y.is_float ? t : t / y.scale);
      }
    }
  }

  void matmul(const json& node, Array& y) const {
    const Array& a = in(node, 0);
    const Array& b = in(node, 1);
    const float multiplier = a.scale * b.scale * node["attrs"]["factor"].get<float>() / y.scale;
    y.resize({b.w(), a.h(), a.w()});
    for (int64_t n = 0; n < b.w(); ++n) {
      for (int64_t row = 0; row < a.h(); ++row) {
        for (int64_t m = 0; m < a.w(); ++m) {
          int64_t sum = 0;
          for (int64_t k = 0; k < a.c(); ++k) {
            sum += (a.q[a.at(k, row, m)] - a.zero_point) * (b.q[b.at(k, row, n)] - b.zero_point);
          }
          y.put(y.at(n, row, m), static_cast<float>(sum) * multiplier);
        }
      }
    }
  }

  /// y[c][h][w] = x[from(c, h, w)], or what stands for zero where from gives -1.
  template <class From>
  void gather(const json& node, Array& y, std::vector<int64_t> shape, From from) const {
    y.resize(std::move(shape));
    if (!y.is_float) std::fill(y.q.begin(), y.q.end(), y.zero_point);
    for (int64_t c = 0; c < y.c(); ++c) {
      for (int64_t h = 0; h < y.h(); ++h) {
        for (int64_t w = 0; w < y.w(); ++w) {
          const int64_t index = from(c, h, w);
          if (index >= 0) y.copy(y.at(c, h, w), in(node), static_cast<size_t>(index));
        }
      }
    }
  }

  void constant(const json& node, Array& y) const {
    y.resize(graph_.tensors.at(node["tensors"]["values"]).shape);
    y.f = tensor<float>(node, "values");
  }

  void cat(const json& node, Array& y) const {
    const auto axis = node["attrs"]["dim"].get<size_t>() - 1;
    std::vector<int64_t> shape = in(node).shape;
    shape[axis] = 0;
    for (size_t i = 0; i < node["inputs"].size(); ++i) shape[axis] += in(node, i).shape[axis];
    y.resize(shape);
    std::vector<int64_t> begin(shape.size(), 0);
    begin.resize(3, 0);
    for (size_t i = 0; i < node["inputs"].size(); ++i) {
      const Array& x = in(node, i);
      for (int64_t c = 0; c < x.c(); ++c) {
        for (int64_t h = 0; h < x.h(); ++h) {
          for (int64_t w = 0; w < x.w(); ++w) {
            y.copy(y.at(begin[0] + c, begin[1] + h, begin[2] + w), x, x.at(c, h, w));
          }
        }
      }
      begin[axis] += x.shape[axis];
    }
  }

  void flatten(const json& node, Array& y) const {
    gather(node, y, {static_cast<int64_t>(in(node).size())}, [](int64_t c, int64_t, int64_t) { return c; });
  }

  void reshape(const json& node, Array& y) const {
    const std::vector<int64_t> shape = node["attrs"]["sample_shape"];
    const int64_t h = shape.size() == 3 ? shape[1] : 1;
    const int64_t w = shape.size() > 1 ? shape.back() : 1;
    gather(node, y, shape,
           [=](int64_t c, int64_t row, int64_t column) { return (c * h + row) * w + column; });
  }

  void permute(const json& node, Array& y) const {
    const Array& x = in(node);
    const std::vector<int64_t> dims = node["attrs"]["dims"];
    if (dims.size() == 3) {
      const bool swapped = dims[1] == 2;
      gather(node, y, swapped ? std::vector<int64_t>{x.w(), x.c()} : x.shape,
             [&](int64_t c, int64_t, int64_t w) {
               return static_cast<int64_t>(swapped ? x.at(w, 0, c) : x.at(c, 0, w));
             });
      return;
    }
    const std::vector<int64_t> extents = {0, x.c(), x.h(), x.w()};
    const auto extent = [&](size_t axis) { return extents[static_cast<size_t>(dims[axis])]; };
    gather(node, y, {extent(1), extent(2), extent(3)}, [&](int64_t c, int64_t h, int64_t w) {
      std::array<int64_t, 4> at = {};
      at[static_cast<size_t>(dims[1])] = c;
      at[static_cast<size_t>(dims[2])] = h;
      at[static_cast<size_t>(dims[3])] = w;
      return static_cast<int64_t>(x.at(at[1], at[2], at[3]));
    });
  }

  void slice(const json& node, Array& y) const {
    const Array& x = in(node);
    const int64_t start = node["attrs"]["start"];
    std::vector<int64_t> shape = x.shape;
    shape[0] = node["attrs"]["end"].get<int64_t>() - start;
    gather(node, y, shape,
           [&](int64_t c, int64_t h, int64_t w) { return static_cast<int64_t>(x.at(c + start, h, w)); });
  }

  void channel_shuffle(const json& node, Array& y) const {
    const Array& x = in(node);
    const int64_t groups = node["attrs"]["groups"];
    gather(node, y, x.shape, [&](int64_t c, int64_t h, int64_t w) {
      return static_cast<int64_t>(x.at(c % groups * (x.c() / groups) + c / groups, h, w));
    });
  }

  void pad(const json& node, Array& y) const {
    const Array& x = in(node);
    const std::vector<int64_t> p = node["attrs"]["padding"];
    const std::string mode = node["attrs"].value("mode", "constant");
    // -1 is a zero; steps over the edge, as often as it takes, until inside.
    const auto source = [&](int64_t i, int64_t size) {
      while (i < 0 || i >= size) {
        if (mode == "constant") return int64_t{-1};
        if (mode == "replicate") i += i < 0 ? 1 : -1;
        if (mode == "circular") i += i < 0 ? size : -size;
        if (mode == "reflect") i = (i < 0 ? 0 : 2 * (size - 1)) - i;
      }
      return i;
    };
    gather(node, y, {x.c(), x.h() + p[0] + p[2], x.w() + p[1] + p[3]}, [&](int64_t c, int64_t h, int64_t w) {
      const int64_t row = source(h - p[0], x.h()), column = source(w - p[1], x.w());
      return row < 0 || column < 0 ? int64_t{-1} : static_cast<int64_t>(x.at(c, row, column));
    });
  }

  void pixel_shuffle(const json& node, Array& y) const {
    const Array& x = in(node);
    const int64_t r = node["attrs"]["upscale_factor"];
    gather(node, y, {x.c() / (r * r), x.h() * r, x.w() * r}, [&](int64_t c, int64_t h, int64_t w) {
      return static_cast<int64_t>(x.at((c * r + h % r) * r + w % r, h / r, w / r));
    });
  }

  void pixel_unshuffle(const json& node, Array& y) const {
    const Array& x = in(node);
    const int64_t r = node["attrs"]["downscale_factor"];
    gather(node, y, {x.c() * r * r, x.h() / r, x.w() / r}, [&](int64_t c, int64_t h, int64_t w) {
      return static_cast<int64_t>(x.at(c / (r * r), h * r + c / r % r, w * r + c % r));
    });
  }

  void upsample_nearest2d(const json& node, Array& y) const {
    const Array& x = in(node);
    const std::vector<int64_t> factor = node["attrs"]["scale_factor"];
    gather(node, y, {x.c(), x.h() * factor[0], x.w() * factor[1]}, [&](int64_t c, int64_t h, int64_t w) {
      return static_cast<int64_t>(x.at(c, h / factor[0], w / factor[1]));
    });
  }

  void upsample_zeros2d(const json& node, Array& y) const {
    const Array& x = in(node);
    const std::vector<int64_t> factor = node["attrs"]["scale_factor"];
    const int64_t height = (x.h() - 1) * factor[0] + 1, width = (x.w() - 1) * factor[1] + 1;
    gather(node, y, {x.c(), height, width}, [&](int64_t c, int64_t h, int64_t w) {
      const bool pixel = h % factor[0] == 0 && w % factor[1] == 0;
      return pixel ? static_cast<int64_t>(x.at(c, h / factor[0], w / factor[1])) : int64_t{-1};
    });
  }

  /// Place o of `out` among `in`: the index before it, the one after it, and the weight of that.
  static std::tuple<int64_t, int64_t, float> between(int64_t o, int64_t in, int64_t out, bool align_corners) {
    const auto place = static_cast<double>(o), from = static_cast<double>(in), to = static_cast<double>(out);
    double at = std::max((place + 0.5) * from / to - 0.5, 0.0);
    if (align_corners) at = out == 1 ? 0.0 : place * (from - 1) / (to - 1);
    const auto first = static_cast<int64_t>(std::floor(at));
    return {first, std::min(first + 1, in - 1), static_cast<float>(at - static_cast<double>(first))};
  }

  void upsample_bilinear2d(const json& node, Array& y) const {
    const Array& x = in(node);
    const std::vector<int64_t> size = node["attrs"]["size"];
    const bool align_corners = node["attrs"]["align_corners"];
    y.resize({x.c(), size[0], size[1]});
    for (int64_t c = 0; c < x.c(); ++c) {
      const auto q = [&](int64_t h, int64_t w) {
        const size_t index = x.at(c, h, w);
        return x.is_float ? x.f[index] : static_cast<float>(x.q[index] - x.zero_point);
      };
      for (int64_t h = 0; h < size[0]; ++h) {
        const auto [top, bottom, below] = between(h, x.h(), size[0], align_corners);
        for (int64_t w = 0; w < size[1]; ++w) {
          const auto [left, right, after] = between(w, x.w(), size[1], align_corners);
          const float above = 1.0F - below, before = 1.0F - after;
          const float first = q(top, left) * before + q(top, right) * after;
          const float second = q(bottom, left) * before + q(bottom, right) * after;
          y.put(y.at(c, h, w), first * above + second * below);
        }
      }
    }
  }

  const Graph& graph_;
  std::map<std::string, Array> values_;
};

}  // namespace

std::vector<float> reference_run(const Graph& graph, const std::vector<float>& input) {
  return reference_values(graph, input, {graph.document["output"]})[0];
}

std::vector<std::vector<float>> reference_values(const Graph& graph, const std::vector<float>& input,
                                                 const std::vector<std::string>& names) {
  Reference reference(graph);
  reference.run(input);
  std::vector<std::vector<float>> values;
  for (const std::string& name : names) values.push_back(reference.floats(name));
  return values;
}

}  // namespace ptqx::engine::testing
