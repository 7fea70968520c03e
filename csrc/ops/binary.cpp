// pack_signs, binary_conv2d_s32, binary_conv2d_f32, binary_linear_s32, binary_linear_f32: layers whose inputs
// and weights are +1 or -1, by XNOR and popcount.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <limits>

#include "engine/conv2d.h"
#include "kernels/pack.h"
#include "ops/checks.h"
#include "ops/executor.h"
#include "ops/layer.h"
#include "ops/layout.h"
#include "ops/packed_weight.h"
#include "ops/registration.h"

namespace ptqx::ops {
namespace {

// ---- shapes ----

/// Whole dwords, so that kernels need not look where the channels end.
c10::SymInt packed_bytes(const c10::SymInt& signs) { return (signs + 31) / 32 * 4; }

Tensor pack_signs_meta(const Tensor& input) {
  check_real(input, "input");
  TORCH_CHECK_VALUE(input.dim() == 2 || input.dim() == 4, "input must have 2 or 4 dimensions, got shape ",
                    input.sym_sizes());
  c10::SymDimVector sizes(input.sym_sizes().begin(), input.sym_sizes().end());
  sizes[1] = packed_bytes(sizes[1]);
  return empty_spatial(sizes, input, at::kByte);
}

void check_sign_count(int64_t signs, const char* name) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  TORCH_CHECK_VALUE(1 <= signs && signs <= kMost, name, " must lie in 1..", kMost, ", got ", signs);
}

void check_packed(const Tensor& tensor, const char* name, int64_t dim, int64_t signs) {
  check_dtype(tensor, name, {at::kByte});
  check_dim(tensor, name, dim);
  TORCH_CHECK_VALUE(tensor.sym_size(1) == packed_bytes(signs), name, " must have ", packed_bytes(signs),
                    " bytes in dimension 1 for ", signs, " signs, got shape ", tensor.sym_sizes());
}

void check_not_empty(const Tensor& tensor, const char* name) {
  TORCH_CHECK_VALUE(tensor.sym_numel() > 0, name, " must not be empty, got shape ", tensor.sym_sizes());
}

/// [N, bytes, H, W] and [O, bytes, kh, kw] -> [N, O, OH, OW].
Tensor empty_binary_conv2d(const Tensor& input, const Tensor& weight, int64_t channels,
                           at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                           at::ScalarType dtype) {
  check_sign_count(channels, "channels");
  check_packed(input, "input", 4, channels);
  check_packed(weight, "weight", 4, channels);
  check_not_empty(weight, "weight");
  return empty_conv2d_output(input, weight, stride, padding, dilation, 1, dtype);
}

Tensor binary_conv2d_s32_meta(const Tensor& input, const Tensor& weight, int64_t channels,
                              at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation) {
  return empty_binary_conv2d(input, weight, channels, stride, padding, dilation, at::kInt);
}

void check_scale_and_bias(const Tensor& weight, const Tensor& weight_scale, const OptionalTensor& bias) {
  const c10::SymInt out = weight.sym_size(0);
  check_dtype(weight_scale, "weight_scale", {at::kFloat});
  check_of_channels(weight_scale, "weight_scale", out);
  check_bias(bias, out, {at::kFloat});
}

Tensor binary_conv2d_f32_meta(const Tensor& input, const Tensor& weight, int64_t channels,
                              const Tensor& weight_scale, const OptionalTensor& bias, at::IntArrayRef stride,
                              at::IntArrayRef padding, at::IntArrayRef dilation) {
  Tensor output = empty_binary_conv2d(input, weight, channels, stride, padding, dilation, at::kFloat);
  check_scale_and_bias(weight, weight_scale, bias);
  return output;
}

/// [N, bytes] and [O, bytes] -> [N, O].
Tensor empty_binary_linear(const Tensor& input, const Tensor& weight, int64_t features,
                           at::ScalarType dtype) {
  check_sign_count(features, "features");
  check_packed(input, "input", 2, features);
  check_packed(weight, "weight", 2, features);
  check_not_empty(weight, "weight");
  return empty_spatial({input.sym_size(0), weight.sym_size(0)}, input, dtype);
}

Tensor binary_linear_s32_meta(const Tensor& input, const Tensor& weight, int64_t features) {
  return empty_binary_linear(input, weight, features, at::kInt);
}

Tensor binary_linear_f32_meta(const Tensor& input, const Tensor& weight, int64_t features,
                              const Tensor& weight_scale, const OptionalTensor& bias) {
  Tensor output = empty_binary_linear(input, weight, features, at::kFloat);
  check_scale_and_bias(weight, weight_scale, bias);
  return output;
}

// ---- CPU ----

Tensor pack_signs_cpu(const Tensor& input) {
  Tensor output = pack_signs_meta(input);
  if (output.numel() == 0) return output;
  const Tensor dense = dense_spatial(input.to(at::kFloat));
  const int64_t signs = input.size(1);
  const int64_t bytes = output.size(1);
  const float* x = dense.const_data_ptr<float>();
  uint8_t* y = output.mutable_data_ptr<uint8_t>();
  constexpr int64_t kGrain = 32768;  // elements
  at::parallel_for(0, output.numel() / bytes, std::max<int64_t>(kGrain / signs, 1),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t pixel = begin; pixel < end; ++pixel) {
                       kernels::pack_signs(x + pixel * signs, signs, y + pixel * bytes);
                     }
                   });
  return output;
}

void run_binary(const LayerShape& shape, const Tensor& input, const Tensor& weight, int64_t signs,
                const kernels::Tail& tail, const Tensor& output) {
  const int64_t terms = shape.conv.kernel_h * shape.conv.kernel_w;
  TORCH_CHECK_VALUE(signs <= std::numeric_limits<int32_t>::max() / terms, "weight must have at most ",
                    std::numeric_limits<int32_t>::max(), " signs for each output channel, got ", terms, " x ",
                    signs);
  if (output.numel() == 0) return;
  const Tensor codes = dense_spatial(input);
  const auto packed = packed_binary_weight(shape.conv, weight, signs);
  const engine::Conv2dCall call{.n = shape.n, .h = shape.h, .w = shape.w, .tail = tail};
  const engine::Conv2dData data{.input = codes.const_data_ptr<uint8_t>(),
                                .output = output.mutable_data_ptr()};
  engine::conv2d(packed->conv, call, data, TorchExecutor());
}

void run_s32(const LayerShape& shape, const Tensor& input, const Tensor& weight, int64_t signs,
             const Tensor& output) {
  kernels::Tail tail;
  tail.output = kernels::Output::kS32;
  run_binary(shape, input, weight, signs, tail, output);
}

void run_f32(const LayerShape& shape, const Tensor& input, const Tensor& weight, int64_t signs,
             const Tensor& weight_scale, const OptionalTensor& bias, const Tensor& output) {
  const Tensor scale = weight_scale.reshape({-1}).expand({weight.size(0)}).contiguous();
  const Tensor real_bias = bias ? bias->contiguous() : Tensor();
  kernels::Tail tail;
  tail.output = kernels::Output::kF32;
  tail.multiplier = scale.const_data_ptr<float>();
  tail.bias_f32 = bias ? real_bias.const_data_ptr<float>() : nullptr;
  run_binary(shape, input, weight, signs, tail, output);
}

LayerShape linear_layer_shape(const Tensor& input, const Tensor& weight) {
  return {.conv = engine::linear_shape(weight.size(1), weight.size(0)), .n = input.size(0), .h = 1, .w = 1};
}

Tensor binary_conv2d_s32_cpu(const Tensor& input, const Tensor& weight, int64_t channels,
                             at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation) {
  Tensor output = binary_conv2d_s32_meta(input, weight, channels, stride, padding, dilation);
  run_s32(conv2d_layer_shape(input, weight, stride, padding, dilation, 1), input, weight, channels, output);
  return output;
}

Tensor binary_conv2d_f32_cpu(const Tensor& input, const Tensor& weight, int64_t channels,
                             const Tensor& weight_scale, const OptionalTensor& bias, at::IntArrayRef stride,
                             at::IntArrayRef padding, at::IntArrayRef dilation) {
  Tensor output =
      binary_conv2d_f32_meta(input, weight, channels, weight_scale, bias, stride, padding, dilation);
  run_f32(conv2d_layer_shape(input, weight, stride, padding, dilation, 1), input, weight, channels,
          weight_scale, bias, output);
  return output;
}

Tensor binary_linear_s32_cpu(const Tensor& input, const Tensor& weight, int64_t features) {
  Tensor output = binary_linear_s32_meta(input, weight, features);
  run_s32(linear_layer_shape(input, weight), input, weight, features, output);
  return output;
}

Tensor binary_linear_f32_cpu(const Tensor& input, const Tensor& weight, int64_t features,
                             const Tensor& weight_scale, const OptionalTensor& bias) {
  Tensor output = binary_linear_f32_meta(input, weight, features, weight_scale, bias);
  run_f32(linear_layer_shape(input, weight), input, weight, features, weight_scale, bias, output);
  return output;
}

}  // namespace

// Signs lie eight a byte along dimension 1, the first one lowest, in whole dwords whose other bits are 0:
// what pack_signs makes of [N, C, H, W] and [N, K], activations and weights alike. Taps on padding are left
// out.
TORCH_LIBRARY_FRAGMENT(ptqx, m) {
  m.def("pack_signs(Tensor input) -> Tensor", kAnyStrides);
  m.def(
      "binary_conv2d_s32(Tensor input, Tensor weight, int channels, int[2] stride=1, int[4] padding=0, "
      "int[2] dilation=1) -> Tensor",
      kAnyStrides);
  m.def(
      "binary_conv2d_f32(Tensor input, Tensor weight, int channels, Tensor weight_scale, Tensor? bias=None, "
      "int[2] stride=1, int[4] padding=0, int[2] dilation=1) -> Tensor",
      kAnyStrides);
  m.def("binary_linear_s32(Tensor input, Tensor weight, int features) -> Tensor", kAnyStrides);
  m.def(
      "binary_linear_f32(Tensor input, Tensor weight, int features, Tensor weight_scale, Tensor? bias=None) "
      "-> Tensor",
      kAnyStrides);
}
TORCH_LIBRARY_IMPL(ptqx, Meta, m) {
  m.impl("pack_signs", pack_signs_meta);
  m.impl("binary_conv2d_s32", binary_conv2d_s32_meta);
  m.impl("binary_conv2d_f32", binary_conv2d_f32_meta);
  m.impl("binary_linear_s32", binary_linear_s32_meta);
  m.impl("binary_linear_f32", binary_linear_f32_meta);
}
TORCH_LIBRARY_IMPL(ptqx, CPU, m) {
  m.impl("pack_signs", pack_signs_cpu);
  m.impl("binary_conv2d_s32", binary_conv2d_s32_cpu);
  m.impl("binary_conv2d_f32", binary_conv2d_f32_cpu);
  m.impl("binary_linear_s32", binary_linear_s32_cpu);
  m.impl("binary_linear_f32", binary_linear_f32_cpu);
}
TORCH_LIBRARY_IMPL(ptqx, Autograd, m) {
  m.impl("pack_signs", no_derivative());
  m.impl("binary_conv2d_s32", no_derivative());
  m.impl("binary_conv2d_f32", no_derivative());
  m.impl("binary_linear_s32", no_derivative());
  m.impl("binary_linear_f32", no_derivative());
}

}  // namespace ptqx::ops
