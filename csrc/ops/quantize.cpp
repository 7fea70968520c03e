// quantize, dequantize, dynamic_quantize: real numbers to codes and back.

#include "kernels/quantize.h"

#include <ATen/ops/empty.h>

#include <cmath>

#include "kernels/arith.h"
#include "ops/checks.h"
#include "ops/layout.h"
#include "ops/registration.h"
#include "ops/statistics.h"

namespace ptqx::ops {
namespace {

// ---- shapes ----

Tensor quantize_meta(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t qmin,
                     int64_t qmax, int64_t axis, int64_t group_size) {
  check_real(input, "input");
  check_dtype(zero_point, "zero_point", {at::kInt});
  check_range(qmin, qmax);
  check_scale_shape(input, scale, zero_point, axis, group_size);
  return empty_spatial(input.sym_sizes(), input, code_type(qmin));
}

Tensor dequantize_meta(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t axis,
                       int64_t group_size) {
  check_dtype(input, "input", {at::kByte, at::kChar, at::kInt});
  check_dtype(zero_point, "zero_point", {at::kInt});
  check_scale_shape(input, scale, zero_point, axis, group_size);
  return empty_spatial(input.sym_sizes(), input, at::kFloat);
}

using Quantized = std::tuple<Tensor, Tensor, Tensor>;

Quantized dynamic_quantize_meta(const Tensor& input, int64_t qmin, int64_t qmax, bool per_sample) {
  check_real(input, "input");
  check_range(qmin, qmax);
  TORCH_CHECK_VALUE(!per_sample || input.dim() >= 1,
                    "input must have a batch dimension with per_sample, got shape ", input.sym_sizes());
  const c10::SymInt count = per_sample ? input.sym_size(0) : c10::SymInt(1);
  return {empty_spatial(input.sym_sizes(), input, code_type(qmin)), empty_spatial({count}, input, at::kFloat),
          empty_spatial({count}, input, at::kInt)};
}

// ---- CPU ----

/// Calls compute(in, out) on tensors that lie as scale_layout needs them, and leaves the result in `output`.
template <class Compute>
void in_scale_order(const Tensor& input, const Tensor& output, int64_t group_size, const Compute& compute) {
  if (group_size > 0 && !output.is_contiguous()) {
    const Tensor row_major = at::empty(output.sizes(), output.options());
    compute(input.contiguous(), row_major);
    output.copy_(row_major);
  } else {
    compute(dense_spatial(input), output);
  }
}

/// `input` is float32 and finite.
void quantize_into(const Tensor& output, const Tensor& input, const Tensor& scale, const Tensor& zero_point,
                   int64_t qmin, int64_t qmax, int64_t axis, int64_t group_size) {
  const Tensor scales = scale.contiguous();
  const Tensor zero_points = zero_point.contiguous();
  const float* s = scales.const_data_ptr<float>();
  const int32_t* z = zero_points.const_data_ptr<int32_t>();
  const auto low = static_cast<int32_t>(qmin);
  const auto high = static_cast<int32_t>(qmax);

  in_scale_order(input, output, group_size, [&](const Tensor& from, const Tensor& to) {
    const float* x = from.const_data_ptr<float>();
    void* y = to.mutable_data_ptr();
    for_each_block(
        scale_layout(to, scales, axis, group_size), [&](int64_t at, kernels::Blocks blocks, int64_t c) {
          if (qmin >= 0) {
            kernels::quantize_u8(x + at, blocks, s + c, z + c, low, high, static_cast<uint8_t*>(y) + at);
          } else {
            kernels::quantize_s8(x + at, blocks, s + c, z + c, low, high, static_cast<int8_t*>(y) + at);
          }
        });
  });
}

/// Planar images to interleaved codes in one pass.
void quantize_images_into(const Tensor& output, const Tensor& images, kernels::QParams qparams, int64_t qmin,
                          int64_t qmax) {
  const int64_t c = images.size(1);
  const int64_t pixels = images.size(2) * images.size(3);
  const float* x = images.const_data_ptr<float>();
  uint8_t* y = output.mutable_data_ptr<uint8_t>();
  at::parallel_for(0, images.size(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      kernels::quantize_u8_nchw_to_nhwc(x + n * c * pixels, c, pixels, pixels, qparams.scale,
                                        qparams.zero_point, static_cast<int32_t>(qmin),
                                        static_cast<int32_t>(qmax), y + n * c * pixels);
    }
  });
}

Tensor quantize_cpu(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t qmin,
                    int64_t qmax, int64_t axis, int64_t group_size) {
  Tensor output = quantize_meta(input, scale, zero_point, qmin, qmax, axis, group_size);
  check_scale_values(scale, "scale");
  check_zero_point_values(zero_point, "zero_point", output.scalar_type());
  const Tensor x = dense_floats(input);
  check_finite(x);
  if (x.dim() == 4 && x.is_contiguous() && qmin >= 0 && scale.numel() == 1 && group_size == 0) {
    quantize_images_into(output, x, per_tensor_qparams(scale, zero_point, "", at::kByte), qmin, qmax);
  } else {
    quantize_into(output, x, scale, zero_point, qmin, qmax, axis, group_size);
  }
  return output;
}

Tensor dequantize_cpu(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t axis,
                      int64_t group_size) {
  Tensor output = dequantize_meta(input, scale, zero_point, axis, group_size);
  check_scale_values(scale, "scale");
  check_zero_point_values(zero_point, "zero_point", input.scalar_type());
  const Tensor scales = scale.contiguous();
  const Tensor zero_points = zero_point.contiguous();
  const float* s = scales.const_data_ptr<float>();
  const int32_t* z = zero_points.const_data_ptr<int32_t>();

  in_scale_order(input, output, group_size, [&](const Tensor& from, const Tensor& to) {
    const void* x = from.const_data_ptr();
    float* y = to.mutable_data_ptr<float>();
    for_each_block(scale_layout(to, scales, axis, group_size), [&](int64_t at, kernels::Blocks blocks,
                                                                   int64_t c) {
      switch (from.scalar_type()) {
        case at::kByte:
          return kernels::dequantize_u8(static_cast<const uint8_t*>(x) + at, blocks, s + c, z + c, y + at);
        case at::kChar:
          return kernels::dequantize_s8(static_cast<const int8_t*>(x) + at, blocks, s + c, z + c, y + at);
        default:
          return kernels::dequantize_s32(static_cast<const int32_t*>(x) + at, blocks, s + c, z + c, y + at);
      }
    });
  });
  return output;
}

/// ONNX DynamicQuantizeLinear, in float32: the range, extended to contain 0, over the codes.
kernels::QParams range_qparams(const kernels::MinMax& range, int32_t qmin, int32_t qmax) {
  const float low = std::min(range.min, 0.0F);
  const float high = std::max(range.max, 0.0F);
  if (low == high) return {.scale = 1.0F, .zero_point = std::clamp(0, qmin, qmax)};
  // Subnormal scales would lose the range; 2^-64 is the smallest scale of the project.
  const float scale = std::max((high - low) / static_cast<float>(qmax - qmin), 0x1p-64F);
  TORCH_CHECK_VALUE(std::isfinite(scale), "input must have a range that fits float32, got ", low, "..", high);
  const float zero_point = kernels::round_half_even(static_cast<float>(qmin) - low / scale);
  return {.scale = scale, .zero_point = std::clamp(static_cast<int32_t>(zero_point), qmin, qmax)};
}

Quantized dynamic_quantize_cpu(const Tensor& input, int64_t qmin, int64_t qmax, bool per_sample) {
  auto [output, scale, zero_point] = dynamic_quantize_meta(input, qmin, qmax, per_sample);
  const Tensor dense = dense_spatial(input.to(at::kFloat));
  check_finite(dense);
  const float* x = dense.const_data_ptr<float>();
  float* s = scale.mutable_data_ptr<float>();
  int32_t* z = zero_point.mutable_data_ptr<int32_t>();
  const int64_t samples = scale.numel();
  const int64_t size = samples == 0 ? 0 : dense.numel() / samples;
  at::parallel_for(0, samples, 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      const kernels::QParams qparams = range_qparams(parallel_min_max(x + n * size, size),
                                                     static_cast<int32_t>(qmin), static_cast<int32_t>(qmax));
      s[n] = qparams.scale;
      z[n] = qparams.zero_point;
    }
  });
  quantize_into(output, dense, scale, zero_point, qmin, qmax, 0, 0);
  return {output, scale, zero_point};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(ptqx, m) {
  // ONNX QuantizeLinear. uint8 codes if qmin >= 0, else int8 ones.
  m.def(
      "quantize(Tensor input, Tensor scale, Tensor zero_point, int qmin, int qmax, int axis=0, "
      "int group_size=0) -> Tensor",
      kAnyStrides);
  // ONNX DequantizeLinear of uint8, int8 or int32.
  m.def("dequantize(Tensor input, Tensor scale, Tensor zero_point, int axis=0, int group_size=0) -> Tensor",
        kAnyStrides);
  // ONNX DynamicQuantizeLinear, of the whole input or of each sample (dimension 0) by itself.
  m.def(
      "dynamic_quantize(Tensor input, int qmin=0, int qmax=255, bool per_sample=False) "
      "-> (Tensor output, Tensor scale, Tensor zero_point)",
      kAnyStrides);
}
TORCH_LIBRARY_IMPL(ptqx, Meta, m) {
  m.impl("quantize", quantize_meta);
  m.impl("dequantize", dequantize_meta);
  m.impl("dynamic_quantize", dynamic_quantize_meta);
}
TORCH_LIBRARY_IMPL(ptqx, CPU, m) {
  m.impl("quantize", quantize_cpu);
  m.impl("dequantize", dequantize_cpu);
  m.impl("dynamic_quantize", dynamic_quantize_cpu);
}
TORCH_LIBRARY_IMPL(ptqx, Autograd, m) {
  m.impl("quantize", no_derivative());
  m.impl("dequantize", no_derivative());
  m.impl("dynamic_quantize", no_derivative());
}

}  // namespace ptqx::ops
