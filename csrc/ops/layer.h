#pragma once

// What conv2d and linear share: operands brought into the kernels' form, the proof that no accumulator
// overflows, the fused tail, the run. A linear layer is a convolution of images of one column.

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <vector>

#include "engine/conv2d.h"
#include "ops/packed_weight.h"

namespace ptqx::ops {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

/// Images and their geometry.
struct LayerShape {
  engine::Conv2dShape conv;
  int64_t n, h, w;
};

class Layer {
 public:
  /// `input` codes of n images, any strides.
  Layer(const LayerShape& shape, const Tensor& input, const StoredWeight& weight,
        const OptionalTensor& weight_zero_point, int64_t group_size);

  /// Zero point of the input, one or one per sample; absent is 0.
  void set_input_zero_point(const OptionalTensor& zero_point);
  /// multiplier = (input_scale * weight_scale) / output_scale; one input_scale or one per sample.
  void set_scales(const Tensor& input_scale, const Tensor& weight_scale, float output_scale);
  /// int32 is added to the accumulators; float32, in real units, is divided by the output scale.
  void set_bias(const OptionalTensor& bias, float output_scale);
  void set_activation(c10::string_view name, at::ArrayRef<double> args, const OptionalTensor& slopes);
  void set_residual(const Tensor& residual, const Tensor& scale, const Tensor& zero_point,
                    float output_scale);
  /// Instead of scales, activation and residual.
  void set_fixed_point(const Tensor& multiplier, const Tensor& shift);

  void run_s32(const Tensor& output);
  void run_f32(const Tensor& output);
  void run_codes(const Tensor& output, int32_t output_zero_point, int64_t qmin, int64_t qmax);
  void run_fixed_point(const Tensor& output, const Tensor& output_zero_point, int64_t qmin, int64_t qmax);

 private:
  void set_range(const Tensor& output, int32_t output_zero_point, int64_t qmin, int64_t qmax);
  void run(const Tensor& output);
  void check_accumulators() const;

  LayerShape shape_;
  int64_t group_size_;
  int32_t input_shift_;
  Tensor input_, bias_, residual_;
  std::shared_ptr<const PackedWeight> weight_;
  std::vector<int32_t> input_zero_points_, fixed_multiplier_, shift_;
  std::vector<float> multiplier_, sample_scale_, bias_f32_, slopes_;
  kernels::Tail tail_;
};

/// Convolution of [N, C, H, W] with [O, C / groups, kh, kw] -> [N, O, OH, OW]: the rules of geometry.
Tensor empty_conv2d_output(const Tensor& input, const Tensor& weight, at::IntArrayRef stride,
                           at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups,
                           at::ScalarType dtype);
LayerShape conv2d_layer_shape(const Tensor& input, const Tensor& weight, at::IntArrayRef stride,
                              at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups);

/// Shape and dtype rules of the arguments that every layer has: what Meta can see.
void check_layer_weight(const Tensor& weight, const OptionalTensor& weight_zero_point, int64_t weight_dim);
void check_layer_scales(const Tensor& input, const Tensor& input_scale, const Tensor& input_zero_point,
                        const Tensor& weight, const Tensor& weight_scale, const OptionalTensor& bias,
                        int64_t group_size, bool per_sample);
void check_layer_fixed_point(const Tensor& weight, const OptionalTensor& bias, const Tensor& multiplier,
                             const Tensor& shift);
void check_residual(const Tensor& output, const OptionalTensor& residual,
                    const OptionalTensor& residual_scale, const OptionalTensor& residual_zero_point);

}  // namespace ptqx::ops
