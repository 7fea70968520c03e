// linear_s32, linear, linear_f32, linear_fixed_point: integer matrix products, with int32, requantized or
// real results.

#include <ATen/core/Tensor.h>

#include "ops/checks.h"
#include "ops/layer.h"
#include "ops/layout.h"
#include "ops/registration.h"

namespace ptqx::ops {
namespace {

// ---- shapes ----

/// [..., K] and [O, K] -> [..., O].
Tensor empty_linear(const Tensor& input, const Tensor& weight, const OptionalTensor& weight_zero_point,
                    at::ScalarType dtype) {
  check_codes(input, "input");
  check_layer_weight(weight, weight_zero_point, 2);
  TORCH_CHECK_VALUE(input.dim() >= 1 && input.sym_size(-1) == weight.sym_size(1), "input must have ",
                    weight.sym_size(1), " features in its last dimension, got shape ", input.sym_sizes());
  c10::SymDimVector sizes(input.sym_sizes().begin(), input.sym_sizes().end());
  sizes.back() = weight.sym_size(0);
  // Features are the last dimension, whatever the rank: row-major.
  return input.new_empty_symint(sizes, input.options().dtype(dtype));
}

Tensor linear_s32_meta(const Tensor& input, const Tensor& weight, const OptionalTensor& input_zero_point,
                       const OptionalTensor& weight_zero_point) {
  Tensor output = empty_linear(input, weight, weight_zero_point, at::kInt);
  if (input_zero_point) check_one_zero_point(*input_zero_point, "input_zero_point");
  return output;
}

Tensor linear_meta(const Tensor& input, const Tensor& input_scale, const Tensor& input_zero_point,
                   const Tensor& weight, const Tensor& weight_scale, const OptionalTensor& weight_zero_point,
                   const OptionalTensor& bias, const Tensor& output_scale, const Tensor& output_zero_point,
                   int64_t qmin, int64_t qmax, c10::string_view /*activation*/,
                   at::ArrayRef<double> /*activation_args*/, const OptionalTensor& /*slopes*/,
                   const OptionalTensor& residual, const OptionalTensor& residual_scale,
                   const OptionalTensor& residual_zero_point, int64_t group_size, int64_t weight_bits,
                   at::OptionalIntArrayRef weight_shape, const OptionalTensor& weight_levels) {
  check_range(qmin, qmax);
  const Tensor outline = StoredWeight{weight, weight_bits, weight_shape, weight_levels}.outline();
  Tensor output = empty_linear(input, outline, weight_zero_point, code_type(qmin));
  check_layer_scales(input, input_scale, input_zero_point, outline, weight_scale, bias, group_size, false);
  check_per_tensor(output_scale, output_zero_point, "output_");
  check_residual(output, residual, residual_scale, residual_zero_point);
  return output;
}

Tensor linear_f32_meta(const Tensor& input, const Tensor& input_scale, const Tensor& input_zero_point,
                       const Tensor& weight, const Tensor& weight_scale,
                       const OptionalTensor& weight_zero_point, const OptionalTensor& bias,
                       c10::string_view /*activation*/, at::ArrayRef<double> /*activation_args*/,
                       const OptionalTensor& /*slopes*/, int64_t group_size, int64_t weight_bits,
                       at::OptionalIntArrayRef weight_shape, const OptionalTensor& weight_levels) {
  const Tensor outline = StoredWeight{weight, weight_bits, weight_shape, weight_levels}.outline();
  Tensor output = empty_linear(input, outline, weight_zero_point, at::kFloat);
  check_layer_scales(input, input_scale, input_zero_point, outline, weight_scale, bias, group_size, true);
  return output;
}

Tensor linear_fixed_point_meta(const Tensor& input, const Tensor& input_zero_point, const Tensor& weight,
                               const OptionalTensor& weight_zero_point, const OptionalTensor& bias,
                               const Tensor& multiplier, const Tensor& shift, const Tensor& output_zero_point,
                               int64_t qmin, int64_t qmax, int64_t weight_bits,
                               at::OptionalIntArrayRef weight_shape, const OptionalTensor& weight_levels) {
  check_bounds(qmin, qmax);
  const Tensor outline = StoredWeight{weight, weight_bits, weight_shape, weight_levels}.outline();
  Tensor output = empty_linear(input, outline, weight_zero_point, code_type(qmin));
  check_one_zero_point(input_zero_point, "input_zero_point");
  check_layer_fixed_point(outline, bias, multiplier, shift);
  check_one_zero_point(output_zero_point, "output_zero_point");
  return output;
}

// ---- CPU ----

/// Samples are the entries of dimension 0; the rows of one sample become a column of pixels.
LayerShape layer_shape(const Tensor& input, const Tensor& weight) {
  const int64_t samples = input.dim() == 1 ? 1 : input.size(0);
  const int64_t rows = input.numel() / weight.size(1);
  return {.conv = engine::linear_shape(weight.size(1), weight.size(0)),
          .n = samples,
          .h = samples == 0 ? 0 : rows / samples,
          .w = 1};
}

/// Row-major [rows, K], so that 4-D inputs are not taken for images.
Tensor rows_of(const Tensor& input) { return input.reshape({-1, input.size(-1)}); }

Tensor linear_s32_cpu(const Tensor& input, const Tensor& weight, const OptionalTensor& input_zero_point,
                      const OptionalTensor& weight_zero_point) {
  Tensor output = linear_s32_meta(input, weight, input_zero_point, weight_zero_point);
  Layer layer(layer_shape(input, weight), rows_of(input), {weight}, weight_zero_point, 0);
  layer.set_input_zero_point(input_zero_point);
  layer.run_s32(output);
  return output;
}

Tensor linear_cpu(const Tensor& input, const Tensor& input_scale, const Tensor& input_zero_point,
                  const Tensor& weight, const Tensor& weight_scale, const OptionalTensor& weight_zero_point,
                  const OptionalTensor& bias, const Tensor& output_scale, const Tensor& output_zero_point,
                  int64_t qmin, int64_t qmax, c10::string_view activation,
                  at::ArrayRef<double> activation_args, const OptionalTensor& slopes,
                  const OptionalTensor& residual, const OptionalTensor& residual_scale,
                  const OptionalTensor& residual_zero_point, int64_t group_size, int64_t weight_bits,
                  at::OptionalIntArrayRef weight_shape, const OptionalTensor& weight_levels) {
  Tensor output =
      linear_meta(input, input_scale, input_zero_point, weight, weight_scale, weight_zero_point, bias,
                  output_scale, output_zero_point, qmin, qmax, activation, activation_args, slopes, residual,
                  residual_scale, residual_zero_point, group_size, weight_bits, weight_shape, weight_levels);
  const kernels::QParams to =
      per_tensor_qparams(output_scale, output_zero_point, "output_", output.scalar_type());
  const StoredWeight stored{weight, weight_bits, weight_shape, weight_levels};
  Layer layer(layer_shape(input, stored.outline()), rows_of(input), stored, weight_zero_point, group_size);
  layer.set_input_zero_point(input_zero_point);
  layer.set_scales(input_scale, weight_scale, to.scale);
  layer.set_bias(bias, to.scale);
  layer.set_activation(activation, activation_args, slopes);
  if (residual) layer.set_residual(rows_of(*residual), *residual_scale, *residual_zero_point, to.scale);
  layer.run_codes(output, to.zero_point, qmin, qmax);
  return output;
}

Tensor linear_f32_cpu(const Tensor& input, const Tensor& input_scale, const Tensor& input_zero_point,
                      const Tensor& weight, const Tensor& weight_scale,
                      const OptionalTensor& weight_zero_point, const OptionalTensor& bias,
                      c10::string_view activation, at::ArrayRef<double> activation_args,
                      const OptionalTensor& slopes, int64_t group_size, int64_t weight_bits,
                      at::OptionalIntArrayRef weight_shape, const OptionalTensor& weight_levels) {
  Tensor output = linear_f32_meta(input, input_scale, input_zero_point, weight, weight_scale,
                                  weight_zero_point, bias, activation, activation_args, slopes, group_size,
                                  weight_bits, weight_shape, weight_levels);
  const StoredWeight stored{weight, weight_bits, weight_shape, weight_levels};
  Layer layer(layer_shape(input, stored.outline()), rows_of(input), stored, weight_zero_point, group_size);
  layer.set_input_zero_point(input_zero_point);
  layer.set_scales(input_scale, weight_scale, 1.0F);
  layer.set_bias(bias, 1.0F);
  layer.set_activation(activation, activation_args, slopes);
  layer.run_f32(output);
  return output;
}

Tensor linear_fixed_point_cpu(const Tensor& input, const Tensor& input_zero_point, const Tensor& weight,
                              const OptionalTensor& weight_zero_point, const OptionalTensor& bias,
                              const Tensor& multiplier, const Tensor& shift, const Tensor& output_zero_point,
                              int64_t qmin, int64_t qmax, int64_t weight_bits,
                              at::OptionalIntArrayRef weight_shape, const OptionalTensor& weight_levels) {
  Tensor output =
      linear_fixed_point_meta(input, input_zero_point, weight, weight_zero_point, bias, multiplier, shift,
                              output_zero_point, qmin, qmax, weight_bits, weight_shape, weight_levels);
  const StoredWeight stored{weight, weight_bits, weight_shape, weight_levels};
  Layer layer(layer_shape(input, stored.outline()), rows_of(input), stored, weight_zero_point, 0);
  layer.set_input_zero_point(input_zero_point);
  layer.set_bias(bias, 1.0F);
  layer.set_fixed_point(multiplier, shift);
  layer.run_fixed_point(output, output_zero_point, qmin, qmax);
  return output;
}

}  // namespace

// As conv2d_s32, conv2d, conv2d_f32 and conv2d_fixed_point: input [..., K], weight [O, K], output [..., O].
TORCH_LIBRARY_FRAGMENT(ptqx, m) {
  // ONNX MatMulInteger, with the weight transposed
  m.def(
      "linear_s32(Tensor input, Tensor weight, Tensor? input_zero_point=None, Tensor? "
      "weight_zero_point=None) "
      "-> Tensor",
      kAnyStrides);
  // ONNX QLinearMatMul, with the weight transposed
  m.def(
      "linear(Tensor input, Tensor input_scale, Tensor input_zero_point, Tensor weight, Tensor weight_scale, "
      "Tensor? weight_zero_point, Tensor? bias, Tensor output_scale, Tensor output_zero_point, int qmin, int "
      "qmax, "
      "str activation=\"none\", float[] activation_args=[], Tensor? slopes=None, Tensor? residual=None, "
      "Tensor? residual_scale=None, Tensor? residual_zero_point=None, int group_size=0, int weight_bits=8, "
      "int[]? weight_shape=None, Tensor? weight_levels=None) -> Tensor",
      kAnyStrides);
  // Real results. input_scale and input_zero_point may have one entry per sample (dimension 0).
  m.def(
      "linear_f32(Tensor input, Tensor input_scale, Tensor input_zero_point, Tensor weight, Tensor "
      "weight_scale, "
      "Tensor? weight_zero_point, Tensor? bias, str activation=\"none\", float[] activation_args=[], "
      "Tensor? slopes=None, int group_size=0, int weight_bits=8, int[]? weight_shape=None, "
      "Tensor? weight_levels=None) -> Tensor",
      kAnyStrides);
  // Requantized without floats.
  m.def(
      "linear_fixed_point(Tensor input, Tensor input_zero_point, Tensor weight, Tensor? weight_zero_point, "
      "Tensor? bias, Tensor multiplier, Tensor shift, Tensor output_zero_point, int qmin, int qmax, "
      "int weight_bits=8, "
      "int[]? weight_shape=None, Tensor? weight_levels=None) -> Tensor",
      kAnyStrides);
}
TORCH_LIBRARY_IMPL(ptqx, Meta, m) {
  m.impl("linear_s32", linear_s32_meta);
  m.impl("linear", linear_meta);
  m.impl("linear_f32", linear_f32_meta);
  m.impl("linear_fixed_point", linear_fixed_point_meta);
}
TORCH_LIBRARY_IMPL(ptqx, CPU, m) {
  m.impl("linear_s32", linear_s32_cpu);
  m.impl("linear", linear_cpu);
  m.impl("linear_f32", linear_f32_cpu);
  m.impl("linear_fixed_point", linear_fixed_point_cpu);
}
TORCH_LIBRARY_IMPL(ptqx, Autograd, m) {
  m.impl("linear_s32", no_derivative());
  m.impl("linear", no_derivative());
  m.impl("linear_f32", no_derivative());
  m.impl("linear_fixed_point", no_derivative());
}

}  // namespace ptqx::ops
