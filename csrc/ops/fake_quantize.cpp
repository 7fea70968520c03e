// fake_quantize, lsq and their backwards: the straight-through estimator with gradients of scale and
// zero point (LSQ: Esser et al., ICLR 2020; with a zero point: Bhalgat et al., 2020). Kernels on CPU;
// fake_quantize_composite.cpp for every other device; derivatives below, for all of them.

#include "kernels/fake_quantize.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <cmath>

#include "kernels/arith.h"
#include "ops/checks.h"
#include "ops/fake_quantize.h"
#include "ops/layout.h"
#include "ops/registration.h"

namespace ptqx::ops {

void check_fake_quantize(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t qmin,
                         int64_t qmax, int64_t axis, int64_t group_size) {
  check_real(input, "input");
  check_dtype(zero_point, "zero_point", {at::kInt, at::kFloat});
  check_range(qmin, qmax);
  check_scale_shape(input, scale, zero_point, axis, group_size);
}

double lsq_factor(double grad_factor, const Tensor& input, const Tensor& scale, int64_t qmax) {
  if (grad_factor != 0.0) return grad_factor;
  const double elements =
      static_cast<double>(input.numel()) / static_cast<double>(std::max<int64_t>(scale.numel(), 1));
  return 1.0 / std::sqrt(std::max(elements, 1.0) * static_cast<double>(std::max<int64_t>(qmax, 1)));
}

namespace {

// ---- shapes ----

Tensor fake_quantize_meta(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t qmin,
                          int64_t qmax, int64_t axis, int64_t group_size) {
  check_fake_quantize(input, scale, zero_point, qmin, qmax, axis, group_size);
  return at::empty_like(input);
}

Gradients fake_quantize_backward_meta(const Tensor& grad, const Tensor& input, const Tensor& scale,
                                      const Tensor& zero_point, int64_t qmin, int64_t qmax, int64_t axis,
                                      int64_t group_size) {
  check_fake_quantize(input, scale, zero_point, qmin, qmax, axis, group_size);
  TORCH_CHECK_VALUE(grad.sym_sizes() == input.sym_sizes(), "grad must have input's shape ", input.sym_sizes(),
                    ", got ", grad.sym_sizes());
  const auto like = [](const Tensor& qparam) {
    return at::empty_symint(qparam.sym_sizes(), qparam.options().dtype(at::kFloat));
  };
  return {at::empty_like(input), like(scale), like(zero_point)};
}

// ---- CPU ----

/// int32 zero points; float ones are rounded half to even.
Tensor whole_zero_points(const Tensor& zero_point, int64_t qmin) {
  if (zero_point.scalar_type() == at::kInt) {
    check_zero_point_values(zero_point, "zero_point", code_type(qmin));
    return zero_point.contiguous();
  }
  const Tensor floats = zero_point.contiguous();
  Tensor whole = at::empty(floats.sizes(), floats.options().dtype(at::kInt));
  const float* from = floats.const_data_ptr<float>();
  int32_t* to = whole.mutable_data_ptr<int32_t>();
  for (int64_t i = 0; i < floats.numel(); ++i) {
    TORCH_CHECK_VALUE(std::abs(from[i]) <= 0x1p23F, "zero_point must be finite and at most 2^23, got ",
                      from[i], " at index ", i);
    to[i] = static_cast<int32_t>(kernels::round_half_even(from[i]));
  }
  return whole;
}

/// `tensor` as float32 with the strides of `like`.
Tensor floats_like(const Tensor& tensor, const Tensor& like) {
  const Tensor floats = tensor.to(at::kFloat);
  if (floats.strides() == like.strides()) return floats;
  return at::empty_like(like, like.options().dtype(at::kFloat)).copy_(floats);
}

Tensor fake_quantize_cpu(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t qmin,
                         int64_t qmax, int64_t axis, int64_t group_size) {
  Tensor output = fake_quantize_meta(input, scale, zero_point, qmin, qmax, axis, group_size);
  check_scale_values(scale, "scale");
  const Tensor scales = scale.contiguous();
  const Tensor zero_points = whole_zero_points(zero_point, qmin);
  const float* s = scales.const_data_ptr<float>();
  const int32_t* z = zero_points.const_data_ptr<int32_t>();

  const bool in_place = output.scalar_type() == at::kFloat && (group_size == 0 || output.is_contiguous());
  const Tensor from = group_size == 0 ? floats_like(input, output) : input.to(at::kFloat).contiguous();
  const Tensor to = in_place ? output : at::empty_like(from);
  const float* x = from.const_data_ptr<float>();
  float* y = to.mutable_data_ptr<float>();
  for_each_block(scale_layout(to, scales, axis, group_size),
                 [&](int64_t at, kernels::Blocks blocks, int64_t c) {
                   kernels::fake_quantize(x + at, blocks, s + c, z + c, static_cast<int32_t>(qmin),
                                          static_cast<int32_t>(qmax), y + at);
                 });
  if (!in_place) output.copy_(to);
  return output;
}

/// Elements that share a scale lie together: [first, first + count) of memory uses scale `index`.
struct Chunk {
  int64_t first, count, index;
};

/// Cuts runs of equal scale at multiples of kSumChunk: the same sums whatever the threads.
std::vector<Chunk> sum_chunks(const ScaleLayout& layout) {
  std::vector<Chunk> chunks;
  const auto add_run = [&](int64_t first, int64_t count, int64_t index) {
    for (int64_t at = 0; at < count; at += kernels::kSumChunk) {
      chunks.push_back({first + at, std::min(kernels::kSumChunk, count - at), index});
    }
  };
  const auto [outer, channels, inner] = layout.blocks;
  const int64_t rows = layout.tail > 0 ? layout.rows : outer;
  int64_t first = 0;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t count = layout.tail > 0 && c == channels - 1 ? layout.tail : inner;
      add_run(first, count, layout.tail > 0 ? r * channels + c : c);
      first += count;
    }
  }
  return chunks;
}

Gradients scaled_backward_cpu(const Tensor& grad, const Tensor& input, const Tensor& scale,
                              const Tensor& zero_point, int64_t qmin, int64_t qmax, double factor,
                              int64_t axis, int64_t group_size) {
  Gradients result =
      fake_quantize_backward_meta(grad, input, scale, zero_point, qmin, qmax, axis, group_size);
  auto& [grad_input, grad_scale, grad_zero_point] = result;
  check_scale_values(scale, "scale");
  const Tensor scales = scale.contiguous();
  const Tensor zero_points = whole_zero_points(zero_point, qmin);
  const float* s = scales.const_data_ptr<float>();
  const int32_t* z = zero_points.const_data_ptr<int32_t>();

  // One run a scale: per channel, the channels come first.
  const bool per_channel = group_size == 0 && scale.numel() > 1;
  const auto ordered = [&](const Tensor& tensor) {
    if (group_size > 0) return tensor.to(at::kFloat).contiguous();
    if (per_channel) return tensor.to(at::kFloat).movedim(axis, 0).contiguous();
    return floats_like(tensor, grad_input);
  };
  const Tensor x = ordered(input);
  const Tensor dy = ordered(grad);
  const Tensor dx = at::empty_like(x);
  const std::vector<Chunk> chunks = sum_chunks(scale_layout(x, scales, 0, group_size));
  std::vector<double> sums(chunks.size() * 2);
  const float* px = x.const_data_ptr<float>();
  const float* pdy = dy.const_data_ptr<float>();
  float* pdx = dx.mutable_data_ptr<float>();
  at::parallel_for(0, static_cast<int64_t>(chunks.size()), 4, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto [first, count, index] = chunks[static_cast<size_t>(i)];
      kernels::fake_quantize_backward(pdy + first, px + first, count, s[index], z[index],
                                      static_cast<int32_t>(qmin), static_cast<int32_t>(qmax), pdx + first,
                                      &sums[static_cast<size_t>(i) * 2]);
    }
  });

  std::vector<double> totals(static_cast<size_t>(scale.numel()) * 2);
  for (size_t i = 0; i < chunks.size(); ++i) {
    const auto index = static_cast<size_t>(chunks[i].index) * 2;
    totals[index] += sums[2 * i];
    totals[index + 1] += sums[2 * i + 1];
  }
  float* scale_out = grad_scale.mutable_data_ptr<float>();
  float* zero_point_out = grad_zero_point.mutable_data_ptr<float>();
  for (size_t i = 0; i < totals.size() / 2; ++i) {
    scale_out[i] = static_cast<float>(totals[2 * i] * factor);
    zero_point_out[i] = static_cast<float>(totals[2 * i + 1] * factor);
  }
  if (!per_channel && group_size == 0 && grad_input.scalar_type() == at::kFloat) {
    grad_input = dx;
  } else {
    grad_input.copy_(per_channel ? dx.movedim(0, axis) : dx);
  }
  return result;
}

Gradients fake_quantize_backward_cpu(const Tensor& grad, const Tensor& input, const Tensor& scale,
                                     const Tensor& zero_point, int64_t qmin, int64_t qmax, int64_t axis,
                                     int64_t group_size) {
  return scaled_backward_cpu(grad, input, scale, zero_point, qmin, qmax, 1.0, axis, group_size);
}

// ---- lsq: the same numbers, the gradients of scale and zero point times a factor ----

Tensor lsq_meta(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t qmin,
                int64_t qmax, double /*grad_factor*/, int64_t axis, int64_t group_size) {
  return fake_quantize_meta(input, scale, zero_point, qmin, qmax, axis, group_size);
}

Tensor lsq_cpu(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t qmin, int64_t qmax,
               double /*grad_factor*/, int64_t axis, int64_t group_size) {
  return fake_quantize_cpu(input, scale, zero_point, qmin, qmax, axis, group_size);
}

Gradients lsq_backward_meta(const Tensor& grad, const Tensor& input, const Tensor& scale,
                            const Tensor& zero_point, int64_t qmin, int64_t qmax, double /*grad_factor*/,
                            int64_t axis, int64_t group_size) {
  return fake_quantize_backward_meta(grad, input, scale, zero_point, qmin, qmax, axis, group_size);
}

Gradients lsq_backward_cpu(const Tensor& grad, const Tensor& input, const Tensor& scale,
                           const Tensor& zero_point, int64_t qmin, int64_t qmax, double grad_factor,
                           int64_t axis, int64_t group_size) {
  return scaled_backward_cpu(grad, input, scale, zero_point, qmin, qmax,
                             lsq_factor(grad_factor, input, scale, qmax), axis, group_size);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(ptqx, m) {
  // (clamp(round(input / scale) + zero_point, qmin, qmax) - zero_point) * scale, computed in float32.
  // A float32 zero_point is rounded, and gets a gradient.
  m.def(
      "fake_quantize(Tensor input, Tensor scale, Tensor zero_point, int qmin, int qmax, int axis=0, "
      "int group_size=0) -> Tensor",
      kExactStrides);
  m.def(
      "fake_quantize_backward(Tensor grad, Tensor input, Tensor scale, Tensor zero_point, int qmin, int "
      "qmax, "
      "int axis=0, int group_size=0) -> (Tensor grad_input, Tensor grad_scale, Tensor grad_zero_point)",
      kExactStrides);
  // grad_factor 0 stands for 1 / sqrt(elements per scale * qmax).
  m.def(
      "lsq(Tensor input, Tensor scale, Tensor zero_point, int qmin, int qmax, float grad_factor=0., int "
      "axis=0, "
      "int group_size=0) -> Tensor",
      kExactStrides);
  m.def(
      "lsq_backward(Tensor grad, Tensor input, Tensor scale, Tensor zero_point, int qmin, int qmax, "
      "float grad_factor=0., int axis=0, int group_size=0) "
      "-> (Tensor grad_input, Tensor grad_scale, Tensor grad_zero_point)",
      kExactStrides);
}
TORCH_LIBRARY_IMPL(ptqx, Meta, m) {
  m.impl("fake_quantize", fake_quantize_meta);
  m.impl("fake_quantize_backward", fake_quantize_backward_meta);
  m.impl("lsq", lsq_meta);
  m.impl("lsq_backward", lsq_backward_meta);
}
TORCH_LIBRARY_IMPL(ptqx, CPU, m) {
  m.impl("fake_quantize", fake_quantize_cpu);
  m.impl("fake_quantize_backward", fake_quantize_backward_cpu);
  m.impl("lsq", lsq_cpu);
  m.impl("lsq_backward", lsq_backward_cpu);
}

}  // namespace ptqx::ops
