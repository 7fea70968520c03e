// conv2d_s64, linear_s64: the sums of layers of 16-bit codes.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <vector>

#include "kernels/dot.h"
#include "ops/checks.h"
#include "ops/layer.h"
#include "ops/layout.h"
#include "ops/registration.h"

namespace ptqx::ops {
namespace {

// ---- shapes ----

void check_operands(const Tensor& input, const Tensor& weight, int64_t weight_dim) {
  check_dtype(input, "input", {at::kShort});
  check_dtype(weight, "weight", {at::kShort});
  check_dim(weight, "weight", weight_dim);
  TORCH_CHECK_VALUE(weight.sym_numel() > 0, "weight must not be empty, got shape ", weight.sym_sizes());
}

/// [N, C, H, W] and [O, C / groups, kh, kw] -> [N, O, OH, OW].
Tensor conv2d_s64_meta(const Tensor& input, const Tensor& weight, at::IntArrayRef stride,
                       at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups) {
  check_operands(input, weight, 4);
  check_dim(input, "input", 4);
  return empty_conv2d_output(input, weight, stride, padding, dilation, groups, at::kLong);
}

/// [..., K] and [O, K] -> [..., O].
Tensor linear_s64_meta(const Tensor& input, const Tensor& weight) {
  check_operands(input, weight, 2);
  TORCH_CHECK_VALUE(input.dim() >= 1 && input.sym_size(-1) == weight.sym_size(1), "input must have ",
                    weight.sym_size(1), " features in its last dimension, got shape ", input.sym_sizes());
  c10::SymDimVector sizes(input.sym_sizes().begin(), input.sym_sizes().end());
  sizes.back() = weight.sym_size(0);
  return input.new_empty_symint(sizes, input.options().dtype(at::kLong));
}

// ---- CPU ----

constexpr int64_t kGrain = 16384;  // multiplications

kernels::DotS16Fn* best_dot() { return kernels::best_row(kernels::dot_s16_rows()).function; }

/// What the taps of one output see in `channels` channels from `channel` on: [kh][kw][channels], 0 where
/// there is padding. x is an image, HWC.
void gather_patch(const LayerShape& layer, const int16_t* x, int64_t oy, int64_t ox, int64_t channel,
                  int64_t channels, int16_t* patch) {
  const engine::Conv2dShape& s = layer.conv;
  for (int64_t ky = 0; ky < s.kernel_h; ++ky) {
    const int64_t iy = oy * s.stride_h - s.pad_top + ky * s.dilation_h;
    for (int64_t kx = 0; kx < s.kernel_w; ++kx, patch += channels) {
      const int64_t ix = ox * s.stride_w - s.pad_left + kx * s.dilation_w;
      if (iy < 0 || iy >= layer.h || ix < 0 || ix >= layer.w) {
        std::fill_n(patch, channels, int16_t{0});
      } else {
        std::copy_n(x + (iy * layer.w + ix) * s.in_channels + channel, channels, patch);
      }
    }
  }
}

/// A line of outputs of one image; w is OHWI.
void convolve_line(kernels::DotS16Fn* dot, const LayerShape& layer, const int16_t* x, const int16_t* w,
                   int64_t oy, int64_t* y) {
  const engine::Conv2dShape& s = layer.conv;
  const int64_t in_group = s.in_channels / s.groups, out_group = s.out_channels / s.groups;
  const int64_t taps = s.kernel_h * s.kernel_w * in_group;
  std::vector<int16_t> patch(static_cast<size_t>(taps));
  for (int64_t ox = 0; ox < s.output_w(layer.w); ++ox) {
    for (int64_t oc = 0; oc < s.out_channels; ++oc) {
      if (oc % out_group == 0)
        gather_patch(layer, x, oy, ox, oc / out_group * in_group, in_group, patch.data());
      y[ox * s.out_channels + oc] = dot(patch.data(), w + oc * taps, taps);
    }
  }
}

Tensor conv2d_s64_cpu(const Tensor& input, const Tensor& weight, at::IntArrayRef stride,
                      at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups) {
  Tensor output = conv2d_s64_meta(input, weight, stride, padding, dilation, groups);
  if (output.numel() == 0) return output;
  const LayerShape layer = conv2d_layer_shape(input, weight, stride, padding, dilation, groups);
  const Tensor images = dense_spatial(input);
  const Tensor filters = weight.permute({0, 2, 3, 1}).contiguous();
  const auto* x = images.const_data_ptr<int16_t>();
  const auto* w = filters.const_data_ptr<int16_t>();
  auto* y = output.mutable_data_ptr<int64_t>();
  const int64_t lines = output.size(2);
  const int64_t image = layer.h * layer.w * layer.conv.in_channels;
  const int64_t line = output.size(3) * output.size(1);
  const int64_t macs = line * filters.numel() / filters.size(0);
  kernels::DotS16Fn* const dot = best_dot();
  at::parallel_for(0, layer.n * lines, std::max<int64_t>(kGrain / macs, 1), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      convolve_line(dot, layer, x + i / lines * image, w, i % lines, y + i * line);
    }
  });
  return output;
}

Tensor linear_s64_cpu(const Tensor& input, const Tensor& weight) {
  Tensor output = linear_s64_meta(input, weight);
  if (output.numel() == 0) return output;
  const Tensor rows = input.contiguous();
  const Tensor filters = weight.contiguous();
  const auto* x = rows.const_data_ptr<int16_t>();
  const auto* w = filters.const_data_ptr<int16_t>();
  auto* y = output.mutable_data_ptr<int64_t>();
  const int64_t k = filters.size(1), out = filters.size(0);
  kernels::DotS16Fn* const dot = best_dot();
  at::parallel_for(0, output.numel(), std::max<int64_t>(kGrain / k, 1), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = dot(x + i / out * k, w + i % out * k, k);
  });
  return output;
}

}  // namespace

// int16 codes without zero points, exact int64 sums; padding is [top, left, bottom, right].
TORCH_LIBRARY_FRAGMENT(ptqx, m) {
  m.def(
      "conv2d_s64(Tensor input, Tensor weight, int[2] stride=1, int[4] padding=0, int[2] dilation=1, "
      "int groups=1) -> Tensor",
      kAnyStrides);
  m.def("linear_s64(Tensor input, Tensor weight) -> Tensor", kAnyStrides);
}
TORCH_LIBRARY_IMPL(ptqx, Meta, m) {
  m.impl("conv2d_s64", conv2d_s64_meta);
  m.impl("linear_s64", linear_s64_meta);
}
TORCH_LIBRARY_IMPL(ptqx, CPU, m) {
  m.impl("conv2d_s64", conv2d_s64_cpu);
  m.impl("linear_s64", linear_s64_cpu);
}
TORCH_LIBRARY_IMPL(ptqx, Autograd, m) {
  m.impl("conv2d_s64", no_derivative());
  m.impl("linear_s64", no_derivative());
}

}  // namespace ptqx::ops
