// conv2d_s32, conv2d, conv2d_f32, conv2d_fixed_point: integer convolution, with int32, requantized or real
// results.

#include <ATen/core/Tensor.h>

#include "ops/checks.h"
#include "ops/layer.h"
#include "ops/layout.h"
#include "ops/registration.h"

namespace ptqx::ops {
namespace {

// ---- shapes ----

/// [N, C, H, W] and [O, C / groups, kh, kw] -> [N, O, OH, OW].
Tensor empty_conv2d(const Tensor& input, const Tensor& weight, const OptionalTensor& weight_zero_point,
                    at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups,
                    at::ScalarType dtype) {
  check_codes(input, "input");
  check_dim(input, "input", 4);
  check_layer_weight(weight, weight_zero_point, 4);
  return empty_conv2d_output(input, weight, stride, padding, dilation, groups, dtype);
}

Tensor conv2d_s32_meta(const Tensor& input, const Tensor& weight, const OptionalTensor& input_zero_point,
                       const OptionalTensor& weight_zero_point, at::IntArrayRef stride,
                       at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups) {
  Tensor output = empty_conv2d(input, weight, weight_zero_point, stride, padding, dilation, groups, at::kInt);
  if (input_zero_point) check_one_zero_point(*input_zero_point, "input_zero_point");
  return output;
}

Tensor conv2d_meta(const Tensor& input, const Tensor& input_scale, const Tensor& input_zero_point,
                   const Tensor& weight, const Tensor& weight_scale, const OptionalTensor& weight_zero_point,
                   const OptionalTensor& bias, const Tensor& output_scale, const Tensor& output_zero_point,
                   int64_t qmin, int64_t qmax, at::IntArrayRef stride, at::IntArrayRef padding,
                   at::IntArrayRef dilation, int64_t groups, c10::string_view /*activation*/,
                   at::ArrayRef<double> /*activation_args*/, const OptionalTensor& /*slopes*/,
                   const OptionalTensor& residual, const OptionalTensor& residual_scale,
                   const OptionalTensor& residual_zero_point, int64_t group_size, int64_t weight_bits,
                   at::OptionalIntArrayRef weight_shape, const OptionalTensor& weight_levels) {
  check_range(qmin, qmax);
  const Tensor outline = StoredWeight{weight, weight_bits, weight_shape, weight_levels}.outline();
  Tensor output =
      empty_conv2d(input, outline, weight_zero_point, stride, padding, dilation, groups, code_type(qmin));
  check_layer_scales(input, input_scale, input_zero_point, outline, weight_scale, bias, group_size, false);
  check_per_tensor(output_scale, output_zero_point, "output_");
  TORCH_CHECK_VALUE(group_size == 0 || groups == 1, "groups must be 1 with group_size, got ", groups);
  check_residual(output, residual, residual_scale, residual_zero_point);
  return output;
}

Tensor conv2d_f32_meta(const Tensor& input, const Tensor& input_scale, const Tensor& input_zero_point,
                       const Tensor& weight, const Tensor& weight_scale,
                       const OptionalTensor& weight_zero_point, const OptionalTensor& bias,
                       at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                       int64_t groups, c10::string_view /*activation*/,
                       at::ArrayRef<double> /*activation_args*/, const OptionalTensor& /*slopes*/,
                       int64_t group_size, int64_t weight_bits, at::OptionalIntArrayRef weight_shape,
                       const OptionalTensor& weight_levels) {
  const Tensor outline = StoredWeight{weight, weight_bits, weight_shape, weight_levels}.outline();
  Tensor output =
      empty_conv2d(input, outline, weight_zero_point, stride, padding, dilation, groups, at::kFloat);
  check_layer_scales(input, input_scale, input_zero_point, outline, weight_scale, bias, group_size, true);
  TORCH_CHECK_VALUE(group_size == 0 || groups == 1, "groups must be 1 with group_size, got ", groups);
  return output;
}

Tensor conv2d_fixed_point_meta(const Tensor& input, const Tensor& input_zero_point, const Tensor& weight,
                               const OptionalTensor& weight_zero_point, const OptionalTensor& bias,
                               const Tensor& multiplier, const Tensor& shift, const Tensor& output_zero_point,
                               int64_t qmin, int64_t qmax, at::IntArrayRef stride, at::IntArrayRef padding,
                               at::IntArrayRef dilation, int64_t groups, int64_t weight_bits,
                               at::OptionalIntArrayRef weight_shape, const OptionalTensor& weight_levels) {
  check_bounds(qmin, qmax);
  const Tensor outline = StoredWeight{weight, weight_bits, weight_shape, weight_levels}.outline();
  Tensor output =
      empty_conv2d(input, outline, weight_zero_point, stride, padding, dilation, groups, code_type(qmin));
  check_one_zero_point(input_zero_point, "input_zero_point");
  check_layer_fixed_point(outline, bias, multiplier, shift);
  check_one_zero_point(output_zero_point, "output_zero_point");
  return output;
}

// ---- CPU ----

Tensor conv2d_s32_cpu(const Tensor& input, const Tensor& weight, const OptionalTensor& input_zero_point,
                      const OptionalTensor& weight_zero_point, at::IntArrayRef stride,
                      at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups) {
  Tensor output =
      conv2d_s32_meta(input, weight, input_zero_point, weight_zero_point, stride, padding, dilation, groups);
  Layer layer(conv2d_layer_shape(input, weight, stride, padding, dilation, groups), input, {weight},
              weight_zero_point, 0);
  layer.set_input_zero_point(input_zero_point);
  layer.run_s32(output);
  return output;
}

Tensor conv2d_cpu(const Tensor& input, const Tensor& input_scale, const Tensor& input_zero_point,
                  const Tensor& weight, const Tensor& weight_scale, const OptionalTensor& weight_zero_point,
                  const OptionalTensor& bias, const Tensor& output_scale, const Tensor& output_zero_point,
                  int64_t qmin, int64_t qmax, at::IntArrayRef stride, at::IntArrayRef padding,
                  at::IntArrayRef dilation, int64_t groups, c10::string_view activation,
                  at::ArrayRef<double> activation_args, const OptionalTensor& slopes,
                  const OptionalTensor& residual, const OptionalTensor& residual_scale,
                  const OptionalTensor& residual_zero_point, int64_t group_size, int64_t weight_bits,
                  at::OptionalIntArrayRef weight_shape, const OptionalTensor& weight_levels) {
  Tensor output = conv2d_meta(input, input_scale, input_zero_point, weight, weight_scale, weight_zero_point,
                              bias, output_scale, output_zero_point, qmin, qmax, stride, padding, dilation,
                              groups, activation, activation_args, slopes, residual, residual_scale,
                              residual_zero_point, group_size, weight_bits, weight_shape, weight_levels);
  const kernels::QParams to =
      per_tensor_qparams(output_scale, output_zero_point, "output_", output.scalar_type());
  const StoredWeight stored{weight, weight_bits, weight_shape, weight_levels};
  Layer layer(conv2d_layer_shape(input, stored.outline(), stride, padding, dilation, groups), input, stored,
              weight_zero_point, group_size);
  layer.set_input_zero_point(input_zero_point);
  layer.set_scales(input_scale, weight_scale, to.scale);
  layer.set_bias(bias, to.scale);
  layer.set_activation(activation, activation_args, slopes);
  if (residual) layer.set_residual(*residual, *residual_scale, *residual_zero_point, to.scale);
  layer.run_codes(output, to.zero_point, qmin, qmax);
  return output;
}

Tensor conv2d_f32_cpu(const Tensor& input, const Tensor& input_scale, const Tensor& input_zero_point,
                      const Tensor& weight, const Tensor& weight_scale,
                      const OptionalTensor& weight_zero_point, const OptionalTensor& bias,
                      at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                      int64_t groups, c10::string_view activation, at::ArrayRef<double> activation_args,
                      const OptionalTensor& slopes, int64_t group_size, int64_t weight_bits,
                      at::OptionalIntArrayRef weight_shape, const OptionalTensor& weight_levels) {
  Tensor output =
      conv2d_f32_meta(input, input_scale, input_zero_point, weight, weight_scale, weight_zero_point, bias,
                      stride, padding, dilation, groups, activation, activation_args, slopes, group_size,
                      weight_bits, weight_shape, weight_levels);
  const StoredWeight stored{weight, weight_bits, weight_shape, weight_levels};
  Layer layer(conv2d_layer_shape(input, stored.outline(), stride, padding, dilation, groups), input, stored,
              weight_zero_point, group_size);
  layer.set_input_zero_point(input_zero_point);
  layer.set_scales(input_scale, weight_scale, 1.0F);
  layer.set_bias(bias, 1.0F);
  layer.set_activation(activation, activation_args, slopes);
  layer.run_f32(output);
  return output;
}

Tensor conv2d_fixed_point_cpu(const Tensor& input, const Tensor& input_zero_point, const Tensor& weight,
                              const OptionalTensor& weight_zero_point, const OptionalTensor& bias,
                              const Tensor& multiplier, const Tensor& shift, const Tensor& output_zero_point,
                              int64_t qmin, int64_t qmax, at::IntArrayRef stride, at::IntArrayRef padding,
                              at::IntArrayRef dilation, int64_t groups, int64_t weight_bits,
                              at::OptionalIntArrayRef weight_shape, const OptionalTensor& weight_levels) {
  Tensor output = conv2d_fixed_point_meta(input, input_zero_point, weight, weight_zero_point, bias,
                                          multiplier, shift, output_zero_point, qmin, qmax, stride, padding,
                                          dilation, groups, weight_bits, weight_shape, weight_levels);
  const StoredWeight stored{weight, weight_bits, weight_shape, weight_levels};
  Layer layer(conv2d_layer_shape(input, stored.outline(), stride, padding, dilation, groups), input, stored,
              weight_zero_point, 0);
  layer.set_input_zero_point(input_zero_point);
  layer.set_bias(bias, 1.0F);
  layer.set_fixed_point(multiplier, shift);
  layer.run_fixed_point(output, output_zero_point, qmin, qmax);
  return output;
}

}  // namespace

// input and weight are uint8 or int8 codes; padding is [top, left, bottom, right]. A layer whose
// accumulators might leave int32 is refused.
TORCH_LIBRARY_FRAGMENT(ptqx, m) {
  // ONNX ConvInteger
  m.def(
      "conv2d_s32(Tensor input, Tensor weight, Tensor? input_zero_point=None, Tensor? "
      "weight_zero_point=None, "
      "int[2] stride=1, int[4] padding=0, int[2] dilation=1, int groups=1) -> Tensor",
      kAnyStrides);
  // ONNX QLinearConv with a fused end. bias: int32 in units of input_scale * weight_scale, or float32 in real
  // units (the only one with group_size). activation_args are in units of output_scale. weight_bits,
  // weight_shape and weight_levels: ops/stored_weight.h.
  m.def(
      "conv2d(Tensor input, Tensor input_scale, Tensor input_zero_point, Tensor weight, Tensor weight_scale, "
      "Tensor? weight_zero_point, Tensor? bias, Tensor output_scale, Tensor output_zero_point, int qmin, int "
      "qmax, "
      "int[2] stride=1, int[4] padding=0, int[2] dilation=1, int groups=1, str activation=\"none\", "
      "float[] activation_args=[], Tensor? slopes=None, Tensor? residual=None, Tensor? residual_scale=None, "
      "Tensor? residual_zero_point=None, int group_size=0, int weight_bits=8, int[]? weight_shape=None, "
      "Tensor? weight_levels=None) -> Tensor",
      kAnyStrides);
  // Real results. input_scale and input_zero_point may have one entry per sample.
  m.def(
      "conv2d_f32(Tensor input, Tensor input_scale, Tensor input_zero_point, Tensor weight, Tensor "
      "weight_scale, "
      "Tensor? weight_zero_point, Tensor? bias, int[2] stride=1, int[4] padding=0, int[2] dilation=1, "
      "int groups=1, str activation=\"none\", float[] activation_args=[], Tensor? slopes=None, int "
      "group_size=0, int weight_bits=8, int[]? weight_shape=None, Tensor? weight_levels=None) "
      "-> Tensor",
      kAnyStrides);
  // Requantized without floats, as `requantize` does. bias is int32, multiplier and shift int32 of 1 or O
  // elements.
  m.def(
      "conv2d_fixed_point(Tensor input, Tensor input_zero_point, Tensor weight, Tensor? weight_zero_point, "
      "Tensor? bias, Tensor multiplier, Tensor shift, Tensor output_zero_point, int qmin, int qmax, "
      "int[2] stride=1, int[4] padding=0, int[2] dilation=1, int groups=1, int weight_bits=8, "
      "int[]? weight_shape=None, Tensor? weight_levels=None) -> Tensor",
      kAnyStrides);
}
TORCH_LIBRARY_IMPL(ptqx, Meta, m) {
  m.impl("conv2d_s32", conv2d_s32_meta);
  m.impl("conv2d", conv2d_meta);
  m.impl("conv2d_f32", conv2d_f32_meta);
  m.impl("conv2d_fixed_point", conv2d_fixed_point_meta);
}
TORCH_LIBRARY_IMPL(ptqx, CPU, m) {
  m.impl("conv2d_s32", conv2d_s32_cpu);
  m.impl("conv2d", conv2d_cpu);
  m.impl("conv2d_f32", conv2d_f32_cpu);
  m.impl("conv2d_fixed_point", conv2d_fixed_point_cpu);
}
TORCH_LIBRARY_IMPL(ptqx, Autograd, m) {
  m.impl("conv2d_s32", no_derivative());
  m.impl("conv2d", no_derivative());
  m.impl("conv2d_f32", no_derivative());
  m.impl("conv2d_fixed_point", no_derivative());
}

}  // namespace ptqx::ops
