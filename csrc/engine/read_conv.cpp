// conv2d, linear, their dynamic forms, those of signs and those without floats: weights are unpacked,
// multipliers computed, and the accumulator's bound is proven.

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "engine/node_reader.h"
#include "kernels/arith.h"
#include "kernels/quantize.h"

namespace ptqx::engine {
namespace {

constexpr int64_t kMaxCodes = int64_t{1} << 31;  // codes of one weight; also bounded by the file

int64_t row_size(const std::vector<int64_t>& shape) {
  int64_t size = 1;
  for (size_t i = 1; i < shape.size(); ++i) size *= shape[i];
  return size;
}

/// Codes without gaps, every output channel begun on a new byte.
void unpack_rows(const TensorView& packed, int64_t rows, int64_t k, int bits, int8_t* codes) {
  const int64_t stride = packed.shape[1];
  for (int64_t row = 0; row < rows; ++row) {
    kernels::unpack_codes(packed.data.data() + row * stride, k, bits, codes + row * k);
  }
}

/// A file may say what each code stands for: weight_levels, I8 [1 or rows, 2^bits], the level of the
/// smallest code first.
void apply_levels(NodeReader& reader, int64_t bits, int64_t rows, std::vector<int8_t>& codes) {
  if (!reader.has_tensor("weight_levels")) return;
  const int64_t count = int64_t{1} << bits;
  const bool shared = reader.tensor_shape("weight_levels") == std::vector<int64_t>{1, count};
  const TensorView& view = reader.tensor("weight_levels", DType::kI8, {shared ? 1 : rows, count});
  const auto* levels = reinterpret_cast<const int8_t*>(view.data.data());
  const size_t k = codes.size() / static_cast<size_t>(rows);
  for (size_t i = 0; i < codes.size(); ++i) {
    const auto row = static_cast<int64_t>(shared ? 0 : i / k);
    codes[i] = levels[row * count + codes[i] + count / 2];
  }
}

void read_weight(NodeReader& reader, const std::vector<int64_t>& shape, Conv2d& conv) {
  int64_t size = 1;
  for (const int64_t extent : shape) {
    reader.require((size *= extent) <= kMaxCodes, "weight_shape is too large");
  }
  const auto bits = static_cast<int>(reader.integer("weight_bits", 1, 8));
  const int64_t rows = shape[0];
  const int64_t k = row_size(shape);
  if (bits == 8) {
    const TensorView& view = reader.tensor("weight", DType::kI8, shape);
    const auto* codes = reinterpret_cast<const int8_t*>(view.data.data());
    conv.weight.assign(codes, codes + size);
  } else {
    // The tensor is checked before anything of the weight's size is allocated.
    const TensorView& view = reader.tensor("weight", DType::kU8, {rows, kernels::packed_bytes(k, bits)});
    conv.weight.resize(static_cast<size_t>(size));
    unpack_rows(view, rows, k, bits, conv.weight.data());
  }
  apply_levels(reader, bits, rows, conv.weight);
}

void read_multiplier(NodeReader& reader, Conv2d& conv) {
  const int64_t out = conv.shape.out_channels;
  std::vector<float> scale;
  if (conv.group_size == 0) {
    scale = reader.channel_f32("weight_scale", out);
  } else {
    const int64_t groups = (conv.shape.in_channels + conv.group_size - 1) / conv.group_size;
    const std::vector<float> by_channel =
        elements<float>(reader.tensor("weight_scale", DType::kF32, {out, groups}));
    for (int64_t group = 0; group < groups; ++group) {
      for (int64_t c = 0; c < out; ++c) scale.push_back(by_channel[static_cast<size_t>(c * groups + group)]);
    }
  }
  for (const float s : scale) {
    reader.require(valid_scale(s), "weight_scale must be finite and at least 2^-64");
    const float m = kernels::requantize_multiplier(reader.input().scale, s, reader.output().scale);
    reader.require(std::isfinite(m), "input scale * weight_scale / output scale overflows float32");
    conv.multiplier.push_back(m);
  }
}

void read_bias(NodeReader& reader, Conv2d& conv) {
  if (!reader.has_tensor("bias")) return;
  const int64_t out = conv.shape.out_channels;
  if (reader.tensor_dtype("bias") == DType::kI32) {
    reader.require(!conv.dynamic && conv.group_size == 0,
                   "bias must be F32 with dynamic activations and with group_size > 0");
    conv.bias = elements<int32_t>(reader.tensor("bias", DType::kI32, {out}));
    return;
  }
  conv.bias_f32 = elements<float>(reader.tensor("bias", DType::kF32, {out}));
  for (float& b : conv.bias_f32) {
    b = b / reader.output().scale;
    reader.require(std::isfinite(b), "bias must be finite, also in units of the output scale");
  }
}

/// sum |q_x - z_x| * |q_w - z_w| + |q_b| < 2^31 for every output channel.
void prove_accumulator(const NodeReader& reader, const Conv2d& conv) {
  const Value& x = reader.input();
  const int64_t largest = conv.dynamic ? 255 : std::max(x.qmax - x.zero_point, x.zero_point - x.qmin);
  const auto out = static_cast<size_t>(conv.shape.out_channels);
  const size_t k = conv.weight.size() / out;
  for (size_t c = 0; c < out; ++c) {
    const int64_t zero_point = conv.weight_zero_point.empty() ? 0 : conv.weight_zero_point[c];
    int64_t sum = 0;
    for (size_t i = 0; i < k; ++i) sum += std::abs(conv.weight[c * k + i] - zero_point);
    const int64_t bias = conv.bias.empty() ? 0 : std::abs(int64_t{conv.bias[c]});
    if (largest * sum + bias >= int64_t{1} << 31) {
      reader.fail("the accumulator of output channel " + std::to_string(c) + " may overflow 32 bits");
    }
  }
}

void read_residual(NodeReader& reader, Conv2d& conv) {
  if (reader.inputs() < 2) return;
  const Value& output = reader.output();
  reader.require_codes(1);
  reader.require(!output.is_float, "a residual needs a uint8 output");
  reader.require(reader.input(1).same_shape(output), "the residual must have the output's shape");
  conv.residual_multiplier = reader.input(1).scale / output.scale;
  reader.require(std::isfinite(conv.residual_multiplier), "residual scale / output scale overflows float32");
}

/// Without floats; the scales are in multiplier and shift already.
void read_fixed_point(NodeReader& reader, Conv2d& conv) {
  const int64_t out = conv.shape.out_channels;
  reader.channel_f32("weight_scale", out);
  reader.require(conv.group_size == 0, "without floats group_size must be 0");
  reader.require(!reader.has_tensor("bias") || reader.tensor_dtype("bias") == DType::kI32,
                 "without floats bias must be I32");
  read_bias(reader, conv);
  conv.fixed_point = reader.fixed_point(1, out);
}

void read_float_tail(NodeReader& reader, Conv2d& conv) {
  read_multiplier(reader, conv);
  read_bias(reader, conv);
  read_residual(reader, conv);
  conv.activation = reader.activation();
}

enum class Form { kStatic, kDynamic, kFixedPoint };

/// What convolutions and linear layers share, once the shape is known.
Conv2d read_layer(NodeReader& reader, const std::vector<int64_t>& weight_shape, Form form, Conv2d conv) {
  conv.dynamic = form == Form::kDynamic;
  if (conv.dynamic) {
    reader.require(reader.input().is_float && reader.output().is_float, "takes float32 and gives float32");
  } else {
    reader.require_codes(0);
  }
  read_weight(reader, weight_shape, conv);
  if (reader.has_tensor("weight_zero_point")) {
    conv.weight_zero_point = reader.channel_s32("weight_zero_point", conv.shape.out_channels);
    for (const int32_t z : conv.weight_zero_point) {
      reader.require(-128 <= z && z <= 127, "weight_zero_point must be -128 to 127");
    }
  }
  conv.group_size = reader.integer_or("group_size", 0, 0, kMaxExtent);
  reader.require(conv.group_size % 4 == 0, "group_size must be a multiple of 4");
  if (conv.group_size > 0) {
    reader.require(conv.shape.groups == 1 && !conv.dynamic && conv.weight_zero_point.empty(),
                   "group_size > 0 needs groups 1, static activations and no weight_zero_point");
  }
  if (form == Form::kFixedPoint) {
    read_fixed_point(reader, conv);
  } else {
    read_float_tail(reader, conv);
  }
  prove_accumulator(reader, conv);
  return conv;
}

/// Signs times signs: what XNOR and popcount can count.
Operation as_binary(NodeReader& reader, Conv2d conv) {
  const Value& x = reader.input();
  reader.require(x.qmin == 0 && x.qmax == 2 && x.zero_point == 1,
                 "takes signs: codes 0 and 2 around the zero point 1");
  reader.require(
      std::all_of(conv.weight.begin(), conv.weight.end(), [](int8_t w) { return w == -1 || w == 1; }),
      "weights must be -1 and 1");
  reader.require(conv.shape.groups == 1 && conv.group_size == 0 && conv.weight_zero_point.empty(),
                 "needs groups 1, group_size 0 and no weight_zero_point");
  conv.binary = true;
  return conv;
}

Conv2d read_conv2d_layer(NodeReader& reader, Form form) {
  reader.require_spatial();
  const Value& x = reader.input();
  const auto weight = reader.integers("weight_shape", 4, 1, kMaxExtent * 1024);
  const auto stride = reader.integers_or("stride", {1, 1}, 1, kMaxExtent);
  const auto padding = reader.integers_or("padding", {0, 0, 0, 0}, 0, kMaxExtent - 1);
  const auto dilation = reader.integers_or("dilation", {1, 1}, 1, kMaxExtent);
  const int64_t groups = reader.integer_or("groups", 1, 1, kMaxExtent * 1024);
  reader.require(x.c % groups == 0 && weight[0] % groups == 0,
                 "groups must divide the input and output channels");
  reader.require(x.c / groups == weight[1], "weight_shape does not fit the input's channels");
  reader.require(weight[2] <= kMaxExtent && weight[3] <= kMaxExtent, "the kernel is too large");
  Conv2d conv{.shape = {.in_channels = x.c,
                        .out_channels = weight[0],
                        .kernel_h = weight[2],
                        .kernel_w = weight[3],
                        .stride_h = stride[0],
                        .stride_w = stride[1],
                        .pad_top = padding[0],
                        .pad_left = padding[1],
                        .pad_bottom = padding[2],
                        .pad_right = padding[3],
                        .dilation_h = dilation[0],
                        .dilation_w = dilation[1],
                        .groups = groups}};
  const int64_t room_h = x.h + padding[0] + padding[2] - dilation[0] * (weight[2] - 1);
  const int64_t room_w = x.w + padding[1] + padding[3] - dilation[1] * (weight[3] - 1);
  reader.require(room_h >= 1 && room_w >= 1, "the kernel is larger than the padded input");
  Value& y = reader.output();
  y.spatial = true;
  y.c = weight[0];
  y.h = conv.shape.output_h(x.h);
  y.w = conv.shape.output_w(x.w);
  return read_layer(reader, weight, form, std::move(conv));
}

Conv2d read_linear_layer(NodeReader& reader, Form form) {
  const Value& x = reader.input();
  reader.require(!x.spatial, "the input must have the shape [features]; flatten it first");
  const auto weight = reader.integers("weight_shape", 2, 1, kMaxExtent * 1024);
  reader.require(weight[1] == x.c, "weight_shape does not fit the input's features");
  Conv2d conv{.shape = linear_shape(weight[1], weight[0]), .linear = true};
  reader.output().c = weight[0];
  return read_layer(reader, weight, form, std::move(conv));
}

}  // namespace

Operation read_conv2d(NodeReader& reader) { return read_conv2d_layer(reader, Form::kStatic); }
Operation read_conv2d_dynamic(NodeReader& reader) { return read_conv2d_layer(reader, Form::kDynamic); }
Operation read_conv2d_fixed_point(NodeReader& reader) { return read_conv2d_layer(reader, Form::kFixedPoint); }
Operation read_binary_conv2d(NodeReader& reader) {
  return as_binary(reader, read_conv2d_layer(reader, Form::kStatic));
}
Operation read_linear(NodeReader& reader) { return read_linear_layer(reader, Form::kStatic); }
Operation read_linear_dynamic(NodeReader& reader) { return read_linear_layer(reader, Form::kDynamic); }
Operation read_linear_fixed_point(NodeReader& reader) { return read_linear_layer(reader, Form::kFixedPoint); }
Operation read_binary_linear(NodeReader& reader) {
  return as_binary(reader, read_linear_layer(reader, Form::kStatic));
}

}  // namespace ptqx::engine
