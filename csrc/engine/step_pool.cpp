// Pools: on codes by the kernels, on float32 (graphs with dynamic layers) by plain loops.

#include <limits>
#include <memory>

#include "engine/plan.h"
#include "kernels/arith.h"
#include "kernels/pool.h"
#include "kernels/pool_window.h"

namespace ptqx::engine {
namespace {

kernels::PoolShape pool_shape(const Value& x, const Value& y, const Pool2d& pool, int64_t dilation_h,
                              int64_t dilation_w) {
  return {.c = x.c,
          .h = x.h,
          .w = x.w,
          .oh = y.h,
          .ow = y.w,
          .kernel_h = pool.kernel_h,
          .kernel_w = pool.kernel_w,
          .stride_h = pool.stride_h,
          .stride_w = pool.stride_w,
          .pad_top = pool.pad_h,
          .pad_left = pool.pad_w,
          .dilation_h = dilation_h,
          .dilation_w = dilation_w};
}

kernels::AvgPoolArgs avg_pool_args(const Value& x, const Value& y) {
  return {.input_zero_point = x.zero_point,
          .scale_ratio = x.scale / y.scale,
          .pad_bottom = 0,
          .pad_right = 0,
          .count_include_pad = false,
          .divisor = 0,
          .output_zero_point = y.zero_point,
          .qmin = y.qmin,
          .qmax = y.qmax};
}

/// Output rows begin to end as a pool of their own: input rows above the first window are dropped.
/// Returns how many.
int64_t cut_rows(kernels::PoolShape& shape, int64_t begin, int64_t end) {
  const int64_t first = begin * shape.stride_h - shape.pad_top;
  const int64_t dropped = std::max(first, int64_t{0});
  shape.h -= dropped;
  shape.pad_top = dropped - first;
  shape.oh = end - begin;
  return dropped;
}

/// pool(x, shape, y) on bands of output rows of every sample.
template <class T, class Pool>
void add_pool_step(PlanBuilder& plan, const Node& node, const kernels::PoolShape& shape, Pool pool) {
  const int from = plan.input_buffer(node);
  const int to = plan.output_buffer(node);
  const int64_t row_work_bytes = shape.ow * shape.c * std::min(shape.kernel_h * shape.kernel_w, int64_t{256});
  const auto band = [=](const Run& run, int64_t sample, int64_t begin, int64_t end) {
    kernels::PoolShape rows = shape;
    const int64_t dropped = cut_rows(rows, begin, end);
    pool(run.at<const T>(from) + (sample * shape.h + dropped) * shape.w * shape.c, rows,
         run.at<T>(to) + (sample * shape.oh + begin) * shape.ow * shape.c);
  };
  plan.add(
      {.name = node.name, .op = node.op, .reads = {from}, .writes = {to}, .work = [=](int64_t samples, int) {
         return row_work(samples, shape.oh, row_work_bytes, band);
       }});
}

/// add(sum, x) over the taps of one window, in ascending order, for each channel.
template <class Reduce>
void reduce_window(const float* x, const kernels::PoolShape& s, int64_t oy, int64_t ox, float initial,
                   Reduce reduce, float* y) {
  std::fill(y, y + s.c, initial);
  for (int64_t ky = 0; ky < s.kernel_h; ++ky) {
    const int64_t iy = oy * s.stride_h - s.pad_top + ky * s.dilation_h;
    if (iy < 0 || iy >= s.h) continue;
    for (int64_t kx = 0; kx < s.kernel_w; ++kx) {
      const int64_t ix = ox * s.stride_w - s.pad_left + kx * s.dilation_w;
      if (ix < 0 || ix >= s.w) continue;
      for (int64_t c = 0; c < s.c; ++c) y[c] = reduce(y[c], x[(iy * s.w + ix) * s.c + c]);
    }
  }
}

void max_pool2d_f32(const float* x, const kernels::PoolShape& shape, float* y) {
  for (int64_t oy = 0; oy < shape.oh; ++oy) {
    for (int64_t ox = 0; ox < shape.ow; ++ox, y += shape.c) {
      reduce_window(
          x, shape, oy, ox, -std::numeric_limits<float>::infinity(),
          [](float a, float b) { return std::max(a, b); }, y);
    }
  }
}

void average_window(const float* x, const kernels::PoolShape& shape, int64_t oy, int64_t ox, int64_t count,
                    float* y) {
  reduce_window(x, shape, oy, ox, 0.0F, [](float a, float b) { return a + b; }, y);
  for (int64_t c = 0; c < shape.c; ++c) y[c] /= static_cast<float>(count);
}

/// How much of a window counts: inside the image, or inside the image and its padding.
int64_t counted(int64_t output, int64_t size, int64_t kernel, int64_t stride, int64_t pad, int64_t pad_end,
                bool include_pad) {
  const int64_t begin = output * stride - pad;
  const int64_t end = std::min(begin + kernel, size + (include_pad ? pad_end : 0));
  return end - (include_pad ? begin : std::max(begin, int64_t{0}));
}

void avg_pool2d_f32(const float* x, const kernels::PoolShape& s, const AvgPool2d& args, float* y) {
  for (int64_t oy = 0; oy < s.oh; ++oy) {
    const int64_t rows =
        counted(oy, s.h, s.kernel_h, s.stride_h, s.pad_top, args.pool.pad_h, args.count_include_pad);
    for (int64_t ox = 0; ox < s.ow; ++ox, y += s.c) {
      const int64_t columns =
          counted(ox, s.w, s.kernel_w, s.stride_w, s.pad_left, args.pool.pad_w, args.count_include_pad);
      average_window(x, s, oy, ox, args.divisor != 0 ? args.divisor : rows * columns, y);
    }
  }
}

void adaptive_avg_pool2d_f32(const float* x, const kernels::PoolShape& s, float* y) {
  for (int64_t oy = 0; oy < s.oh; ++oy) {
    const int64_t top = oy * s.h / s.oh;
    const int64_t rows = ((oy + 1) * s.h + s.oh - 1) / s.oh - top;
    for (int64_t ox = 0; ox < s.ow; ++ox, y += s.c) {
      const int64_t left = ox * s.w / s.ow;
      const int64_t columns = ((ox + 1) * s.w + s.ow - 1) / s.ow - left;
      kernels::PoolShape window = s;
      window.kernel_h = rows;
      window.kernel_w = columns;
      average_window(x + (top * s.w + left) * s.c, window, 0, 0, rows * columns, y);
    }
  }
}

/// Averages without floats, of the windows that kernels/pool_window.h gives.
class FixedPointAverage {
 public:
  FixedPointAverage(const FixedPoint& fixed, const Value& x, const Value& y)
      : fixed_(fixed), input_zero_point_(x.zero_point), output_zero_point_(y.zero_point) {}

  template <class Windows>
  void pool(const uint8_t* x, const kernels::PoolShape& s, const Windows& windows, uint8_t* y) const {
    for (int64_t oy = 0; oy < s.oh; ++oy) {
      const kernels::Window rows = windows.rows(oy);
      for (int64_t ox = 0; ox < s.ow; ++ox, y += s.c) average(x, s, rows, windows.columns(ox), y);
    }
  }

 private:
  void average(const uint8_t* x, const kernels::PoolShape& s, const kernels::Window& rows,
               const kernels::Window& columns, uint8_t* y) const {
    std::vector<int32_t> sums(static_cast<size_t>(s.c));
    for (int64_t iy = rows.begin; iy < rows.end; ++iy) {
      for (int64_t ix = columns.begin; ix < columns.end; ++ix) {
        const uint8_t* pixel = x + (iy * s.w + ix) * s.c;
        for (size_t c = 0; c < sums.size(); ++c) sums[c] += pixel[c] - input_zero_point_;
      }
    }
    for (const int32_t sum : sums) {
      const int64_t code = kernels::requantize_fixed_point(
          int64_t{sum} * fixed_.multiplier[0], fixed_.shift[0], output_zero_point_, fixed_.low, fixed_.high);
      *y++ = static_cast<uint8_t>(code);
    }
  }

  const FixedPoint fixed_;
  const int32_t input_zero_point_, output_zero_point_;
};

}  // namespace

void add_steps(PlanBuilder& plan, const Node& node, const MaxPool2d& max_pool) {
  const kernels::PoolShape shape =
      pool_shape(plan.input(node), node.output, max_pool.pool, max_pool.dilation_h, max_pool.dilation_w);
  if (node.output.is_float) {
    add_pool_step<float>(plan, node, shape, max_pool2d_f32);
  } else {
    add_pool_step<uint8_t>(plan, node, shape, kernels::max_pool2d_u8);
  }
}

void add_steps(PlanBuilder& plan, const Node& node, const AvgPool2d& avg_pool) {
  const Value& x = plan.input(node);
  const kernels::PoolShape shape = pool_shape(x, node.output, avg_pool.pool, 1, 1);
  if (node.output.is_float) {
    add_pool_step<float>(plan, node, shape,
                         [avg_pool](const float* from, const kernels::PoolShape& band, float* to) {
                           avg_pool2d_f32(from, band, avg_pool, to);
                         });
    return;
  }
  kernels::AvgPoolArgs args = avg_pool_args(x, node.output);
  args.pad_bottom = avg_pool.pool.pad_h;
  args.pad_right = avg_pool.pool.pad_w;
  args.count_include_pad = avg_pool.count_include_pad;
  args.divisor = avg_pool.divisor;
  if (avg_pool.fixed_point) {
    const auto average = std::make_shared<const FixedPointAverage>(*avg_pool.fixed_point, x, node.output);
    add_pool_step<uint8_t>(plan, node, shape,
                           [=](const uint8_t* from, const kernels::PoolShape& band, uint8_t* to) {
                             average->pool(from, band, kernels::AvgPoolWindows{band, args}, to);
                           });
    return;
  }
  add_pool_step<uint8_t>(plan, node, shape,
                         [args](const uint8_t* from, const kernels::PoolShape& band, uint8_t* to) {
                           kernels::avg_pool2d_u8(from, band, args, to);
                         });
}

void add_steps(PlanBuilder& plan, const Node& node, const AdaptiveAvgPool2d& adaptive) {
  const Value& x = plan.input(node);
  const Value& y = node.output;
  const int from = plan.input_buffer(node);
  const int to = plan.output_buffer(node);
  const Pool2d unused = {1, 1, 1, 1, 0, 0};
  std::shared_ptr<const FixedPointAverage> average;
  if (adaptive.fixed_point) average = std::make_shared<const FixedPointAverage>(*adaptive.fixed_point, x, y);
  const auto pool = [=, is_float = y.is_float, shape = pool_shape(x, y, unused, 1, 1),
                     args = avg_pool_args(x, y), x_size = x.size(),
                     y_size = y.size()](const Run& run, int64_t sample, int64_t, int64_t) {
    if (average != nullptr) {
      average->pool(run.at<const uint8_t>(from) + sample * x_size, shape, kernels::AdaptiveWindows{shape},
                    run.at<uint8_t>(to) + sample * y_size);
    } else if (is_float) {
      adaptive_avg_pool2d_f32(run.at<const float>(from) + sample * x_size, shape,
                              run.at<float>(to) + sample * y_size);
    } else {
      kernels::adaptive_avg_pool2d_u8(run.at<const uint8_t>(from) + sample * x_size, shape, args,
                                      run.at<uint8_t>(to) + sample * y_size);
    }
  };
  // Windows depend on the whole image, so a sample is not cut into bands.
  plan.add(
      {.name = node.name,
       .op = node.op,
       .reads = {from},
       .writes = {to},
       .work = [=, x_size = x.size()](int64_t samples, int) { return row_work(samples, 1, x_size, pool); }});
}

}  // namespace ptqx::engine
