#include "ops/layer.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <stdexcept>

#include "kernels/arith.h"
#include "ops/checks.h"
#include "ops/executor.h"
#include "ops/layout.h"

namespace ptqx::ops {
namespace {

template <class T>
std::vector<T> values_of(const Tensor& tensor) {
  const Tensor dense = tensor.contiguous();
  const T* values = dense.const_data_ptr<T>();
  return {values, values + dense.numel()};
}

/// One value for all, or one each.
template <class T>
std::vector<T> expanded(const Tensor& tensor, int64_t count) {
  std::vector<T> values = values_of<T>(tensor);
  if (values.size() == 1) values.resize(static_cast<size_t>(count), values[0]);
  return values;
}

}  // namespace

// ---- checks that Meta can make ----

void check_layer_weight(const Tensor& weight, const OptionalTensor& weight_zero_point, int64_t weight_dim) {
  check_codes(weight, "weight");
  check_dim(weight, "weight", weight_dim);
  for (int64_t d = 0; d < weight_dim; ++d) {
    TORCH_CHECK_VALUE(weight.sym_size(d) >= 1, "weight must not be empty, got shape ", weight.sym_sizes());
  }
  if (!weight_zero_point) return;
  check_dtype(*weight_zero_point, "weight_zero_point", {at::kInt});
  check_of_channels(*weight_zero_point, "weight_zero_point", weight.sym_size(0));
}

Tensor empty_conv2d_output(const Tensor& input, const Tensor& weight, at::IntArrayRef stride,
                           at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups,
                           at::ScalarType dtype) {
  check_ints(stride, "stride", 2, 1);
  check_ints(padding, "padding", 4, 0);
  check_ints(dilation, "dilation", 2, 1);
  TORCH_CHECK_VALUE(groups >= 1 && weight.sym_size(0) % groups == 0, "groups must divide the ",
                    weight.sym_size(0), " output channels of weight, got ", groups);
  TORCH_CHECK_VALUE(input.sym_size(1) == weight.sym_size(1) * groups, "input must have ",
                    weight.sym_size(1) * groups, " channels for weight ", weight.sym_sizes(), " and ", groups,
                    " groups, got shape ", input.sym_sizes());
  const auto extent = [&](int64_t d) {
    const auto i = static_cast<size_t>(d);
    const c10::SymInt padded = input.sym_size(2 + d) + (padding[i] + padding[i + 2]);
    const c10::SymInt window = (weight.sym_size(2 + d) - 1) * dilation[i] + 1;
    TORCH_CHECK_VALUE(padded >= window, "input must be at least as large as the window of ", window,
                      " once padded, got shape ", input.sym_sizes(), " and padding ", padding);
    return (padded - window) / stride[i] + 1;
  };
  return empty_spatial({input.sym_size(0), weight.sym_size(0), extent(0), extent(1)}, input, dtype);
}

LayerShape conv2d_layer_shape(const Tensor& input, const Tensor& weight, at::IntArrayRef stride,
                              at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups) {
  return {.conv = {.in_channels = input.size(1),
                   .out_channels = weight.size(0),
                   .kernel_h = weight.size(2),
                   .kernel_w = weight.size(3),
                   .stride_h = stride[0],
                   .stride_w = stride[1],
                   .pad_top = padding[0],
                   .pad_left = padding[1],
                   .pad_bottom = padding[2],
                   .pad_right = padding[3],
                   .dilation_h = dilation[0],
                   .dilation_w = dilation[1],
                   .groups = groups},
          .n = input.size(0),
          .h = input.size(2),
          .w = input.size(3)};
}

void check_layer_scales(const Tensor& input, const Tensor& input_scale, const Tensor& input_zero_point,
                        const Tensor& weight, const Tensor& weight_scale, const OptionalTensor& bias,
                        int64_t group_size, bool per_sample) {
  if (per_sample) {
    check_dtype(input_scale, "input_scale", {at::kFloat});
    check_dtype(input_zero_point, "input_zero_point", {at::kInt});
    TORCH_CHECK_VALUE(input_scale.sym_numel() == input_zero_point.sym_numel() &&
                          (input_scale.sym_numel() == 1 || input_scale.sym_numel() == input.sym_size(0)),
                      "input_scale and input_zero_point must both have 1 or ", input.sym_size(0),
                      " elements, got shapes ", input_scale.sym_sizes(), " and ",
                      input_zero_point.sym_sizes());
    TORCH_CHECK_VALUE(group_size == 0 || input_scale.sym_numel() == 1,
                      "input_scale must have one element with group_size, got shape ",
                      input_scale.sym_sizes());
  } else {
    check_per_tensor(input_scale, input_zero_point, "input_");
  }

  check_dtype(weight_scale, "weight_scale", {at::kFloat});
  const c10::SymInt out = weight.sym_size(0);
  if (group_size == 0) {
    check_of_channels(weight_scale, "weight_scale", out);
  } else {
    TORCH_CHECK_VALUE(group_size > 0 && group_size % 4 == 0,
                      "group_size must be 0 or a positive multiple of 4, got ", group_size);
    const c10::SymInt groups = (weight.sym_size(1) + (group_size - 1)) / group_size;
    TORCH_CHECK_VALUE(
        weight_scale.dim() == 2 && weight_scale.sym_size(0) == out && weight_scale.sym_size(1) == groups,
        "weight_scale must have shape [", out, ", ", groups, "] with group_size ", group_size, ", got ",
        weight_scale.sym_sizes());
  }

  check_bias(bias, out, {at::kInt, at::kFloat});
  TORCH_CHECK_VALUE(
      !bias || group_size == 0 || bias->scalar_type() == at::kFloat,
      "bias must be float32 with group_size, because there is one accumulator per group, got int32");
}

void check_layer_fixed_point(const Tensor& weight, const OptionalTensor& bias, const Tensor& multiplier,
                             const Tensor& shift) {
  const c10::SymInt out = weight.sym_size(0);
  check_dtype(multiplier, "multiplier", {at::kInt});
  check_of_channels(multiplier, "multiplier", out);
  check_dtype(shift, "shift", {at::kInt});
  check_of_channels(shift, "shift", out);
  check_bias(bias, out, {at::kInt});
}

void check_residual(const Tensor& output, const OptionalTensor& residual,
                    const OptionalTensor& residual_scale, const OptionalTensor& residual_zero_point) {
  TORCH_CHECK_VALUE(residual.has_value() == residual_scale.has_value() &&
                        residual.has_value() == residual_zero_point.has_value(),
                    "residual, residual_scale and residual_zero_point must be given together");
  if (!residual) return;
  check_codes(*residual, "residual");
  check_per_tensor(*residual_scale, *residual_zero_point, "residual_");
  TORCH_CHECK_VALUE(residual->sym_sizes() == output.sym_sizes(), "residual must have the output's shape ",
                    output.sym_sizes(), ", got ", residual->sym_sizes());
}

// ---- operands ----

Layer::Layer(const LayerShape& shape, const Tensor& input, const StoredWeight& weight,
             const OptionalTensor& weight_zero_point, int64_t group_size)
    : shape_(shape),
      group_size_(group_size),
      input_shift_(zero_point_shift(input.scalar_type())),
      input_(dense_codes(input)),
      weight_(packed_weight(shape.conv, weight, weight_zero_point, group_size)),
      input_zero_points_{input_shift_} {}

void Layer::set_input_zero_point(const OptionalTensor& zero_point) {
  if (!zero_point) return;
  check_zero_point_values(*zero_point, "input_zero_point", input_shift_ == 0 ? at::kByte : at::kChar);
  input_zero_points_ = values_of<int32_t>(*zero_point);
  for (int32_t& z : input_zero_points_) z += input_shift_;
}

void Layer::set_scales(const Tensor& input_scale, const Tensor& weight_scale, float output_scale) {
  check_scale_values(input_scale, "input_scale");
  check_scale_values(weight_scale, "weight_scale");
  const int64_t out = shape_.conv.out_channels;
  if (input_scale.numel() != 1) {
    sample_scale_ = values_of<float>(input_scale);
    multiplier_ = expanded<float>(weight_scale, out);
  } else {
    const float input = values_of<float>(input_scale)[0];
    // [out, groups] becomes [groups][out]; the values do not change places otherwise.
    multiplier_ = group_size_ > 0 ? values_of<float>(weight_scale.t()) : expanded<float>(weight_scale, out);
    for (float& m : multiplier_) m = kernels::requantize_multiplier(input, m, output_scale);
  }
  tail_.multiplier = multiplier_.data();
}

void Layer::set_bias(const OptionalTensor& bias, float output_scale) {
  if (!bias) return;
  if (bias->scalar_type() == at::kInt) {
    bias_ = bias->contiguous();
    tail_.bias = bias_.const_data_ptr<int32_t>();
    return;
  }
  bias_f32_ = values_of<float>(*bias);
  for (float& b : bias_f32_) {
    TORCH_CHECK_VALUE(std::isfinite(b), "bias must be finite, got ", b);
    b /= output_scale;
  }
  tail_.bias_f32 = bias_f32_.data();
}

void Layer::set_activation(c10::string_view name, at::ArrayRef<double> args, const OptionalTensor& slopes) {
  tail_.activation = parse_activation(name, args, slopes, shape_.conv.out_channels, slopes_);
}

void Layer::set_residual(const Tensor& residual, const Tensor& scale, const Tensor& zero_point,
                         float output_scale) {
  const kernels::QParams qparams = per_tensor_qparams(scale, zero_point, "residual_", residual.scalar_type());
  residual_ = dense_codes(residual);
  tail_.residual = residual_.const_data_ptr<uint8_t>();
  tail_.residual_multiplier = qparams.scale / output_scale;
  tail_.residual_zero_point = qparams.zero_point + zero_point_shift(residual.scalar_type());
}

void Layer::set_fixed_point(const Tensor& multiplier, const Tensor& shift) {
  check_shift_values(shift);
  fixed_multiplier_ = expanded<int32_t>(multiplier, shape_.conv.out_channels);
  shift_ = expanded<int32_t>(shift, shape_.conv.out_channels);
  tail_.fixed_multiplier = fixed_multiplier_.data();
  tail_.shift = shift_.data();
}

// ---- run ----

void Layer::check_accumulators() const {
  constexpr int64_t kLimit = std::numeric_limits<int32_t>::max();
  int64_t largest_input = 0;
  for (const int64_t z : input_zero_points_) largest_input = std::max({largest_input, z, 255 - z});
  const auto bias = [&](int64_t channel) {
    return tail_.bias == nullptr ? int64_t{0} : std::abs(int64_t{tail_.bias[channel]});
  };
  for (size_t o = 0; o < weight_->magnitudes.size(); ++o) {
    const int64_t bound = weight_->magnitudes[o] * largest_input + bias(static_cast<int64_t>(o));
    TORCH_CHECK_VALUE(bound <= kLimit, "weight must keep the accumulators of output channel ", o,
                      " within int32, got a bound of ", bound,
                      "; use smaller weights, a smaller bias or a larger scale");
  }
}

void Layer::run_s32(const Tensor& output) {
  tail_.output = kernels::Output::kS32;
  run(output);
}

void Layer::run_f32(const Tensor& output) {
  tail_.output = kernels::Output::kF32;
  run(output);
}

void Layer::run_codes(const Tensor& output, int32_t output_zero_point, int64_t qmin, int64_t qmax) {
  tail_.output = kernels::Output::kU8;
  set_range(output, output_zero_point, qmin, qmax);
  run(output);
  finish_codes(output);
}

void Layer::run_fixed_point(const Tensor& output, const Tensor& output_zero_point, int64_t qmin,
                            int64_t qmax) {
  check_zero_point_values(output_zero_point, "output_zero_point", output.scalar_type());
  tail_.output = kernels::Output::kU8FixedPoint;
  set_range(output, values_of<int32_t>(output_zero_point)[0], qmin, qmax);
  run(output);
  finish_codes(output);
}

void Layer::set_range(const Tensor& output, int32_t output_zero_point, int64_t qmin, int64_t qmax) {
  const int32_t shift = zero_point_shift(output.scalar_type());
  tail_.output_zero_point = output_zero_point + shift;
  tail_.qmin = static_cast<int32_t>(qmin) + shift;
  tail_.qmax = static_cast<int32_t>(qmax) + shift;
}

void Layer::run(const Tensor& output) {
  if (output.numel() == 0) return;
  check_accumulators();
  try {
    input_ = with_slack(input_, static_cast<int64_t>(weight_->conv.input_slack()));
    const bool per_sample = input_zero_points_.size() > 1;
    const engine::Conv2dCall call{.n = shape_.n,
                                  .h = shape_.h,
                                  .w = shape_.w,
                                  .input_zero_point = input_zero_points_[0],
                                  .zero_point_per_sample = per_sample,
                                  .scale_per_sample = !sample_scale_.empty(),
                                  .tail = tail_};
    const engine::Conv2dData data{.input = input_.const_data_ptr<uint8_t>(),
                                  .residual = tail_.residual,
                                  .input_zero_points = input_zero_points_.data(),
                                  .sample_scale = sample_scale_.data(),
                                  .output = output.mutable_data_ptr()};
    engine::conv2d(weight_->conv, call, data, TorchExecutor());
  } catch (const std::invalid_argument& error) {
    TORCH_CHECK_VALUE(false, error.what());
  }
}

}  // namespace ptqx::ops
