// fake_quantize and its backward by the kernels. float32 is computed where it lies; bfloat16 in pieces that
// stay in the L1 cache as float32; other types by way of float32 copies.

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <cmath>

#include "kernels/arith.h"
#include "kernels/fake_quantize.h"
#include "ops/checks.h"
#include "ops/fake_quantize.h"
#include "ops/kept_memory.h"
#include "ops/layout.h"

namespace ptqx::ops {
namespace {

using at::BFloat16;
using kernels::kSumChunk;

/// Scales and zero points as the kernels take them, checked.
struct Grid {
  Tensor scales, zero_points;
  int32_t qmin, qmax;

  Grid(const Tensor& scale, const Tensor& zero_point, int64_t qmin, int64_t qmax)
      : scales(scale.contiguous()),
        zero_points(whole_zero_points(zero_point, qmin)),
        qmin(static_cast<int32_t>(qmin)),
        qmax(static_cast<int32_t>(qmax)) {
    check_scale_values(scale, "scale");
  }
  const float* scale() const { return scales.const_data_ptr<float>(); }
  const int32_t* zero_point() const { return zero_points.const_data_ptr<int32_t>(); }
};

/// `tensor` with the strides of `like`, as float32 or, where kernels read it, bfloat16.
Tensor operand(const Tensor& tensor, const Tensor& like) {
  const at::ScalarType type = like.scalar_type() == at::kBFloat16 ? at::kBFloat16 : at::kFloat;
  const Tensor converted = tensor.to(type);
  if (converted.strides() == like.strides()) return converted;
  return at::empty_like(like, like.options().dtype(type)).copy_(converted);
}

kernels::Store store_for(const Tensor& result) {
  constexpr size_t kCacheBytes = size_t{32} << 20;
  return result.nbytes() >= kCacheBytes ? kernels::Store::kStreamed : kernels::Store::kCached;
}

// ---- runs of elements that share a scale ----

/// Elements that share a scale lie together: [first, first + count) of memory uses scale `index`.
struct Chunk {
  int64_t first, count, index;
};

/// Cuts runs of equal scale at multiples of kSumChunk: the same sums whatever the threads.
std::vector<Chunk> sum_chunks(const ScaleLayout& layout) {
  std::vector<Chunk> chunks;
  const auto add_run = [&](int64_t first, int64_t count, int64_t index) {
    for (int64_t at = 0; at < count; at += kSumChunk) {
      chunks.push_back({first + at, std::min(kSumChunk, count - at), index});
    }
  };
  const auto [outer, channels, inner] = layout.blocks;
  const int64_t rows = layout.tail > 0 ? layout.rows : outer;
  chunks.reserve(static_cast<size_t>(rows * channels * (inner / kSumChunk + 1)));
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

/// Each scale returns after few elements, so that calls and sums would cost more than the elements.
bool short_runs(const ScaleLayout& layout) {
  constexpr int64_t kLongRun = 16;
  const auto [outer, channels, inner] = layout.blocks;
  return layout.tail == 0 && outer > 1 && channels > 1 && inner < kLongRun;
}

/// body(chunk, its place), in parallel.
template <class Body>
void for_each_chunk(const std::vector<Chunk>& chunks, const Body& body) {
  constexpr int64_t kGrain = 16384;  // elements: about 10 microseconds
  if (chunks.empty()) return;
  const int64_t grain = std::max<int64_t>(kGrain / chunks.front().count, 1);
  at::parallel_for(0, static_cast<int64_t>(chunks.size()), grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(chunks[static_cast<size_t>(i)], static_cast<size_t>(i));
  });
}

// ---- bfloat16 by way of a buffer, float32 where it lies ----

using Buffer = float[kSumChunk];

const float* as_floats(const float* x, int64_t /*count*/, Buffer& /*buffer*/) { return x; }
const float* as_floats(const BFloat16* x, int64_t count, Buffer& buffer) {
  for (int64_t i = 0; i < count; ++i) buffer[i] = static_cast<float>(x[i]);
  return buffer;
}

float* result_floats(float* y, Buffer& /*buffer*/) { return y; }
float* result_floats(BFloat16* /*y*/, Buffer& buffer) { return buffer; }

void finish(float* /*y*/, int64_t /*count*/, const Buffer& /*buffer*/) {}
void finish(BFloat16* y, int64_t count, const Buffer& buffer) {
  for (int64_t i = 0; i < count; ++i) y[i] = static_cast<BFloat16>(buffer[i]);
}

void forward_floats(const Tensor& x, const Grid& grid, const ScaleLayout& layout, const Tensor& y) {
  const float* from = x.const_data_ptr<float>();
  float* to = y.mutable_data_ptr<float>();
  const kernels::Store store = store_for(y);
  for_each_block(layout, [&](int64_t at, kernels::Blocks blocks, int64_t c) {
    kernels::fake_quantize(from + at, blocks, grid.scale() + c, grid.zero_point() + c, grid.qmin, grid.qmax,
                           to + at, store);
  });
}

void forward_bfloat16(const Tensor& x, const Grid& grid, const ScaleLayout& layout, const Tensor& y) {
  const BFloat16* from = x.const_data_ptr<BFloat16>();
  BFloat16* to = y.mutable_data_ptr<BFloat16>();
  for_each_chunk(sum_chunks(layout), [&](const Chunk& chunk, size_t) {
    const auto [first, count, index] = chunk;
    alignas(64) Buffer buffer;
    as_floats(from + first, count, buffer);
    kernels::fake_quantize(buffer, {1, 1, count}, grid.scale() + index, grid.zero_point() + index, grid.qmin,
                           grid.qmax, buffer, kernels::Store::kCached);
    finish(to + first, count, buffer);
  });
}

/// Writes dx and returns the sums of every scale, [scales][2].
template <class Real>
std::vector<double> backward(const Tensor& dy, const Tensor& x, const Grid& grid, const ScaleLayout& layout,
                             const Tensor& dx) {
  const std::vector<Chunk> chunks = sum_chunks(layout);
  std::vector<double> sums(chunks.size() * 2);
  const Real* from = x.const_data_ptr<Real>();
  const Real* grad = dy.const_data_ptr<Real>();
  Real* to = dx.mutable_data_ptr<Real>();
  const kernels::Store store = std::is_same_v<Real, float> ? store_for(dx) : kernels::Store::kCached;
  for_each_chunk(chunks, [&](const Chunk& chunk, size_t place) {
    const auto [first, count, index] = chunk;
    alignas(64) Buffer x_buffer;
    alignas(64) Buffer grad_buffer;
    kernels::fake_quantize_backward(as_floats(grad + first, count, grad_buffer),
                                    as_floats(from + first, count, x_buffer), count, grid.scale()[index],
                                    grid.zero_point()[index], grid.qmin, grid.qmax,
                                    result_floats(to + first, grad_buffer), store, &sums[2 * place]);
    finish(to + first, count, grad_buffer);
  });

  std::vector<double> totals(static_cast<size_t>(grid.scales.numel()) * 2);
  for (size_t i = 0; i < chunks.size(); ++i) {
    const auto index = static_cast<size_t>(chunks[i].index) * 2;
    totals[index] += sums[2 * i];
    totals[index + 1] += sums[2 * i + 1];
  }
  return totals;
}

}  // namespace

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

Tensor fake_quantize_cpu(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t qmin,
                         int64_t qmax, int64_t axis, int64_t group_size) {
  check_fake_quantize(input, scale, zero_point, qmin, qmax, axis, group_size);
  const Grid grid(scale, zero_point, qmin, qmax);
  const Tensor output = empty_like_kept(input, input.scalar_type());
  const bool row_major = group_size == 0 || output.is_contiguous();
  const Tensor like = row_major ? output : input.contiguous();
  const ScaleLayout layout = scale_layout(like, grid.scales, axis, group_size);

  if (row_major && input.scalar_type() == at::kFloat) {
    forward_floats(operand(input, like), grid, layout, output);
  } else if (row_major && input.scalar_type() == at::kBFloat16 && !short_runs(layout)) {
    forward_bfloat16(operand(input, like), grid, layout, output);
  } else {
    const Tensor floats = at::empty_like(like, like.options().dtype(at::kFloat)).copy_(input);
    forward_floats(floats, grid, layout, floats);
    output.copy_(floats);
  }
  return output;
}

Gradients fake_quantize_backward_cpu(const Tensor& grad, const Tensor& input, const Tensor& scale,
                                     const Tensor& zero_point, int64_t qmin, int64_t qmax, double factor,
                                     int64_t axis, int64_t group_size) {
  check_fake_quantize(input, scale, zero_point, qmin, qmax, axis, group_size);
  check_grad(grad, input);
  const Grid grid(scale, zero_point, qmin, qmax);
  Tensor grad_input = empty_like_kept(input, input.scalar_type());

  // Sums want long runs of equal scale: as the memory lies, else in row-major order, else channels first.
  Tensor like = group_size > 0 ? input.contiguous() : grad_input;
  ScaleLayout layout = scale_layout(like, grid.scales, axis, group_size);
  if (short_runs(layout)) {
    like = input.contiguous();
    layout = scale_layout(like, grid.scales, axis, group_size);
  }
  const bool channels_first = short_runs(layout);
  const auto ordered = [&](const Tensor& tensor) {
    return channels_first ? tensor.movedim(axis, 0) : tensor;
  };
  if (channels_first) {
    like = ordered(input).contiguous();
    layout = scale_layout(like, grid.scales, 0, 0);
  }
  const Tensor x = operand(ordered(input), like);
  const Tensor dy = operand(ordered(grad), like);
  const bool direct =
      !channels_first && x.scalar_type() == grad_input.scalar_type() && x.strides() == grad_input.strides();
  const Tensor dx = direct ? grad_input : at::empty_like(x);
  const std::vector<double> totals = x.scalar_type() == at::kFloat
                                         ? backward<float>(dy, x, grid, layout, dx)
                                         : backward<BFloat16>(dy, x, grid, layout, dx);
  if (!direct) ordered(grad_input).copy_(dx);

  const auto like_qparam = [](const Tensor& qparam) {
    return at::empty(qparam.sizes(), qparam.options().dtype(at::kFloat));
  };
  Tensor grad_scale = like_qparam(scale);
  Tensor grad_zero_point = like_qparam(zero_point);
  float* scale_out = grad_scale.mutable_data_ptr<float>();
  float* zero_point_out = grad_zero_point.mutable_data_ptr<float>();
  for (size_t i = 0; i < totals.size() / 2; ++i) {
    scale_out[i] = static_cast<float>(totals[2 * i] * factor);
    zero_point_out[i] = static_cast<float>(totals[2 * i + 1] * factor);
  }
  return {grad_input, grad_scale, grad_zero_point};
}

}  // namespace ptqx::ops
