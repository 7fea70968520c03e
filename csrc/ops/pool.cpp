// max_pool2d, avg_pool2d, adaptive_avg_pool2d on codes.

#include "kernels/pool.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <array>

#include "ops/checks.h"
#include "ops/layout.h"
#include "ops/registration.h"

namespace ptqx::ops {
namespace {

// ---- shapes ----

constexpr std::array<int64_t, 2> kNoDilation{1, 1};

/// torch.nn's pooling arguments; an empty stride is the kernel size.
struct Window {
  at::IntArrayRef kernel_size, stride, padding, dilation;
  bool ceil_mode;

  Window(at::IntArrayRef kernel, at::IntArrayRef step, at::IntArrayRef pad, at::IntArrayRef dilate, bool ceil)
      : kernel_size(kernel),
        stride(step.empty() ? kernel : step),
        padding(pad),
        dilation(dilate),
        ceil_mode(ceil) {
    check_ints(kernel_size, "kernel_size", 2, 1);
    check_ints(stride, "stride", 2, 1);
    check_ints(padding, "padding", 2, 0);
    check_ints(dilation, "dilation", 2, 1);
    TORCH_CHECK_VALUE(2 * padding[0] <= kernel_size[0] && 2 * padding[1] <= kernel_size[1],
                      "padding must be at most half of kernel_size ", kernel_size, ", got ", padding);
  }

  /// Output rows (d = 0) or columns (d = 1) for that many input ones, as torch.nn counts them.
  c10::SymInt output_size(const c10::SymInt& size, size_t d) const {
    const int64_t reach = dilation[d] * (kernel_size[d] - 1) + 1;
    const c10::SymInt room = size + (2 * padding[d] - reach);
    TORCH_CHECK_VALUE(size >= 1 && room >= (ceil_mode ? 1 - stride[d] : 0),
                      "input must be at least as large as the ", "window of ", reach, " once padded, got ",
                      size, " with padding ", padding);
    check_taps(size, d);
    if (!ceil_mode) return room / stride[d] + 1;
    const c10::SymInt count = (room + (stride[d] - 1)) / stride[d] + 1;
    // The last window must begin inside the input or its leading padding.
    return (count - 1) * stride[d] >= size + padding[d] ? count - 1 : count;
  }

  /// A dilated window that begins in the padding may step over the whole input.
  void check_taps(const c10::SymInt& size, size_t d) const {
    if (dilation[d] == 1) return;
    for (int64_t before = padding[d]; before > 0; before -= stride[d]) {
      const int64_t first_inside = (before + dilation[d] - 1) / dilation[d] * dilation[d] - before;
      TORCH_CHECK_VALUE(size > first_inside,
                        "dilation must leave every window a tap inside the input, got size ", size,
                        ", padding ", padding, " and dilation ", dilation);
    }
  }
};

void check_images(const Tensor& input) {
  check_codes(input, "input");
  check_dim(input, "input", 4);
}

Tensor empty_pooled(const Tensor& input, const Window& window, at::ScalarType dtype) {
  return empty_spatial({input.sym_size(0), input.sym_size(1), window.output_size(input.sym_size(2), 0),
                        window.output_size(input.sym_size(3), 1)},
                       input, dtype);
}

Tensor max_pool2d_meta(const Tensor& input, at::IntArrayRef kernel_size, at::IntArrayRef stride,
                       at::IntArrayRef padding, at::IntArrayRef dilation, bool ceil_mode) {
  check_images(input);
  return empty_pooled(input, Window(kernel_size, stride, padding, dilation, ceil_mode), input.scalar_type());
}

constexpr int64_t kMostTaps = 1 << 20;  // the kernels' sums stay within int32

Tensor avg_pool2d_meta(const Tensor& input, const Tensor& input_scale, const Tensor& input_zero_point,
                       const Tensor& output_scale, const Tensor& output_zero_point, int64_t qmin,
                       int64_t qmax, at::IntArrayRef kernel_size, at::IntArrayRef stride,
                       at::IntArrayRef padding, bool ceil_mode, bool /*count_include_pad*/,
                       std::optional<int64_t> divisor_override) {
  check_images(input);
  check_range(qmin, qmax);
  check_per_tensor(input_scale, input_zero_point, "input_");
  check_per_tensor(output_scale, output_zero_point, "output_");
  TORCH_CHECK_VALUE(!divisor_override || *divisor_override >= 1, "divisor_override must be at least 1, got ",
                    divisor_override.value_or(0));
  const Window window(kernel_size, stride, padding, kNoDilation, ceil_mode);
  TORCH_CHECK_VALUE(kernel_size[0] <= kMostTaps && kernel_size[1] <= kMostTaps / kernel_size[0],
                    "kernel_size must have at most ", kMostTaps, " elements, got ", kernel_size);
  return empty_pooled(input, window, code_type(qmin));
}

Tensor adaptive_avg_pool2d_meta(const Tensor& input, const Tensor& input_scale,
                                const Tensor& input_zero_point, const Tensor& output_scale,
                                const Tensor& output_zero_point, int64_t qmin, int64_t qmax,
                                at::IntArrayRef output_size) {
  check_images(input);
  check_range(qmin, qmax);
  check_per_tensor(input_scale, input_zero_point, "input_");
  check_per_tensor(output_scale, output_zero_point, "output_");
  check_ints(output_size, "output_size", 2, 1);
  TORCH_CHECK_VALUE(input.sym_size(2) >= 1 && input.sym_size(3) >= 1,
                    "input must have at least one pixel, got shape ", input.sym_sizes());
  return empty_spatial({input.sym_size(0), input.sym_size(1), output_size[0], output_size[1]}, input,
                       code_type(qmin));
}

// ---- CPU ----

kernels::PoolShape pool_shape(const Tensor& input, const Tensor& output) {
  kernels::PoolShape shape{};
  shape.c = input.size(1);
  shape.h = input.size(2);
  shape.w = input.size(3);
  shape.oh = output.size(2);
  shape.ow = output.size(3);
  return shape;
}

kernels::PoolShape pool_shape(const Tensor& input, const Tensor& output, const Window& window) {
  kernels::PoolShape shape = pool_shape(input, output);
  shape.kernel_h = window.kernel_size[0];
  shape.kernel_w = window.kernel_size[1];
  shape.stride_h = window.stride[0];
  shape.stride_w = window.stride[1];
  shape.pad_top = window.padding[0];
  shape.pad_left = window.padding[1];
  shape.dilation_h = window.dilation[0];
  shape.dilation_w = window.dilation[1];
  return shape;
}

/// Calls kernel(x, y) for every image.
template <class Kernel>
void for_each_image(const Tensor& input, const Tensor& output, const Kernel& kernel) {
  if (output.numel() == 0) return;
  const Tensor codes = dense_codes(input);
  const uint8_t* x = codes.const_data_ptr<uint8_t>();
  auto* y = static_cast<uint8_t*>(output.mutable_data_ptr());
  const int64_t images = input.size(0);
  const int64_t x_size = input.numel() / images;
  const int64_t y_size = output.numel() / images;
  at::parallel_for(0, images, 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) kernel(x + n * x_size, y + n * y_size);
  });
  finish_codes(output);
}

Tensor max_pool2d_cpu(const Tensor& input, at::IntArrayRef kernel_size, at::IntArrayRef stride,
                      at::IntArrayRef padding, at::IntArrayRef dilation, bool ceil_mode) {
  Tensor output = max_pool2d_meta(input, kernel_size, stride, padding, dilation, ceil_mode);
  const auto shape = pool_shape(input, output, Window(kernel_size, stride, padding, dilation, ceil_mode));
  for_each_image(input, output, [&](const uint8_t* x, uint8_t* y) { kernels::max_pool2d_u8(x, shape, y); });
  return output;
}

/// From the four scales and zero points; what depends on the window is left to the caller.
kernels::AvgPoolArgs avg_pool_args(const Tensor& input, const Tensor& output, const Tensor& input_scale,
                                   const Tensor& input_zero_point, const Tensor& output_scale,
                                   const Tensor& output_zero_point, int64_t qmin, int64_t qmax) {
  const auto from = per_tensor_qparams(input_scale, input_zero_point, "input_", input.scalar_type());
  const auto to = per_tensor_qparams(output_scale, output_zero_point, "output_", output.scalar_type());
  const int32_t shift = zero_point_shift(output.scalar_type());
  return {.input_zero_point = from.zero_point + zero_point_shift(input.scalar_type()),
          .scale_ratio = from.scale / to.scale,
          .pad_bottom = 0,
          .pad_right = 0,
          .count_include_pad = false,
          .divisor = 0,
          .output_zero_point = to.zero_point + shift,
          .qmin = static_cast<int32_t>(qmin) + shift,
          .qmax = static_cast<int32_t>(qmax) + shift};
}

Tensor avg_pool2d_cpu(const Tensor& input, const Tensor& input_scale, const Tensor& input_zero_point,
                      const Tensor& output_scale, const Tensor& output_zero_point, int64_t qmin, int64_t qmax,
                      at::IntArrayRef kernel_size, at::IntArrayRef stride, at::IntArrayRef padding,
                      bool ceil_mode, bool count_include_pad, std::optional<int64_t> divisor_override) {
  Tensor output =
      avg_pool2d_meta(input, input_scale, input_zero_point, output_scale, output_zero_point, qmin, qmax,
                      kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override);
  kernels::AvgPoolArgs args = avg_pool_args(input, output, input_scale, input_zero_point, output_scale,
                                            output_zero_point, qmin, qmax);
  args.pad_bottom = padding[0];
  args.pad_right = padding[1];
  args.count_include_pad = count_include_pad;
  args.divisor = divisor_override.value_or(0);
  const auto shape = pool_shape(input, output, Window(kernel_size, stride, padding, kNoDilation, ceil_mode));
  for_each_image(input, output,
                 [&](const uint8_t* x, uint8_t* y) { kernels::avg_pool2d_u8(x, shape, args, y); });
  return output;
}

Tensor adaptive_avg_pool2d_cpu(const Tensor& input, const Tensor& input_scale, const Tensor& input_zero_point,
                               const Tensor& output_scale, const Tensor& output_zero_point, int64_t qmin,
                               int64_t qmax, at::IntArrayRef output_size) {
  Tensor output = adaptive_avg_pool2d_meta(input, input_scale, input_zero_point, output_scale,
                                           output_zero_point, qmin, qmax, output_size);
  TORCH_CHECK_VALUE(input.size(2) * input.size(3) <= kMostTaps, "input must have at most ", kMostTaps,
                    " pixels, got shape ", input.sizes());
  const kernels::AvgPoolArgs args = avg_pool_args(input, output, input_scale, input_zero_point, output_scale,
                                                  output_zero_point, qmin, qmax);
  const auto shape = pool_shape(input, output);
  for_each_image(input, output,
                 [&](const uint8_t* x, uint8_t* y) { kernels::adaptive_avg_pool2d_u8(x, shape, args, y); });
  return output;
}

}  // namespace

// Arguments and output sizes are torch.nn's.
TORCH_LIBRARY_FRAGMENT(ptqx, m) {
  m.def(
      "max_pool2d(Tensor input, int[2] kernel_size, int[2] stride=[], int[2] padding=0, int[2] dilation=1, "
      "bool ceil_mode=False) -> Tensor",
      kAnyStrides);
  // float32(sum of (q - input_zero_point)) * (input_scale / output_scale / count), rounded once
  m.def(
      "avg_pool2d(Tensor input, Tensor input_scale, Tensor input_zero_point, Tensor output_scale, "
      "Tensor output_zero_point, int qmin, int qmax, int[2] kernel_size, int[2] stride=[], int[2] padding=0, "
      "bool ceil_mode=False, bool count_include_pad=True, int? divisor_override=None) -> Tensor",
      kAnyStrides);
  m.def(
      "adaptive_avg_pool2d(Tensor input, Tensor input_scale, Tensor input_zero_point, Tensor output_scale, "
      "Tensor output_zero_point, int qmin, int qmax, int[2] output_size) -> Tensor",
      kAnyStrides);
}
TORCH_LIBRARY_IMPL(ptqx, Meta, m) {
  m.impl("max_pool2d", max_pool2d_meta);
  m.impl("avg_pool2d", avg_pool2d_meta);
  m.impl("adaptive_avg_pool2d", adaptive_avg_pool2d_meta);
}
TORCH_LIBRARY_IMPL(ptqx, CPU, m) {
  m.impl("max_pool2d", max_pool2d_cpu);
  m.impl("avg_pool2d", avg_pool2d_cpu);
  m.impl("adaptive_avg_pool2d", adaptive_avg_pool2d_cpu);
}
TORCH_LIBRARY_IMPL(ptqx, Autograd, m) {
  m.impl("max_pool2d", no_derivative());
  m.impl("avg_pool2d", no_derivative());
  m.impl("adaptive_avg_pool2d", no_derivative());
}

}  // namespace ptqx::ops
