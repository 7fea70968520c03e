// max_pool2d, avg_pool2d, adaptive_avg_pool2d: output sizes as in torch.nn, windows never empty.

#include <cmath>

#include "engine/node_reader.h"

namespace ptqx::engine {
namespace {

constexpr int64_t kMaxWindow = int64_t{1} << 20;  // what the kernels' int32 sums are made for

/// One axis of a pooling window.
struct Axis {
  int64_t size, kernel, stride, pad, dilation;

  int64_t extent() const { return dilation * (kernel - 1) + 1; }

  /// torch's rule: with ceil_mode, the last window must begin inside the image or its leading padding.
  int64_t output(bool ceil_mode) const {
    const int64_t room = size + 2 * pad - extent() + (ceil_mode ? stride - 1 : 0);
    if (room < 0) return 0;
    int64_t output = room / stride + 1;
    if (ceil_mode && (output - 1) * stride >= size + pad) --output;
    return output;
  }

  /// Does every window have a tap inside the image? Only those that begin in the leading padding and
  /// the last one can be without.
  bool windows_touch(int64_t outputs) const {
    const auto touches = [&](int64_t o) {
      const int64_t begin = o * stride - pad;
      const int64_t tap = begin >= 0 ? 0 : (-begin + dilation - 1) / dilation;
      return tap < kernel && begin + tap * dilation < size;
    };
    for (int64_t o = 0; o < outputs && o * stride < pad; ++o) {
      if (!touches(o)) return false;
    }
    return touches(outputs - 1);
  }
};

Pool2d read_pool(NodeReader& reader, const std::vector<int64_t>& dilation) {
  reader.require_spatial();
  const Value& x = reader.input();
  const auto kernel = reader.integers("kernel_size", 2, 1, kMaxExtent);
  const auto stride = reader.integers_or("stride", kernel, 1, kMaxExtent);
  const auto padding = reader.integers_or("padding", {0, 0}, 0, kMaxExtent - 1);
  const bool ceil_mode = reader.boolean_or("ceil_mode", false);
  const Axis rows{x.h, kernel[0], stride[0], padding[0], dilation[0]};
  const Axis columns{x.w, kernel[1], stride[1], padding[1], dilation[1]};
  Value& y = reader.output();
  y.spatial = true;
  y.c = x.c;
  y.h = rows.output(ceil_mode);
  y.w = columns.output(ceil_mode);
  reader.require(y.h >= 1 && y.w >= 1, "the kernel is larger than the padded input");
  reader.require(2 * padding[0] <= rows.extent() && 2 * padding[1] <= columns.extent(),
                 "padding must be at most half the kernel");
  reader.require(rows.windows_touch(y.h) && columns.windows_touch(y.w), "a window lies wholly on padding");
  return {kernel[0], kernel[1], stride[0], stride[1], padding[0], padding[1]};
}

void require_finite_ratio(NodeReader& reader) {
  reader.require(std::isfinite(reader.input().scale / reader.output().scale),
                 "input scale / output scale overflows float32");
}

}  // namespace

Operation read_max_pool2d(NodeReader& reader) {
  reader.require_moved_codes();
  const auto dilation = reader.integers_or("dilation", {1, 1}, 1, kMaxExtent);
  return MaxPool2d{read_pool(reader, dilation), dilation[0], dilation[1]};
}

Operation read_avg_pool2d(NodeReader& reader) {
  reader.require_one_dtype();
  require_finite_ratio(reader);
  AvgPool2d node{read_pool(reader, {1, 1}), reader.boolean_or("count_include_pad", true),
                 reader.integer_or("divisor", 0, -(int64_t{1} << 31), int64_t{1} << 31)};
  reader.require(node.pool.kernel_h * node.pool.kernel_w <= kMaxWindow, "kernel_size is too large");
  return node;
}

Operation read_avg_pool2d_fixed_point(NodeReader& reader) {
  auto pool = std::get<AvgPool2d>(read_avg_pool2d(reader));
  pool.fixed_point = reader.fixed_point(1, 1);
  return pool;
}

Operation read_adaptive_avg_pool2d(NodeReader& reader) {
  reader.require_one_dtype();
  reader.require_spatial();
  require_finite_ratio(reader);
  const Value& x = reader.input();
  const auto size = reader.integers("output_size", 2, 1, kMaxExtent);
  Value& y = reader.output();
  y.spatial = true;
  y.c = x.c;
  y.h = size[0];
  y.w = size[1];
  reader.require((x.h / y.h + 2) * (x.w / y.w + 2) <= kMaxWindow, "output_size makes windows too large");
  return AdaptiveAvgPool2d{};
}

Operation read_adaptive_avg_pool2d_fixed_point(NodeReader& reader) {
  auto pool = std::get<AdaptiveAvgPool2d>(read_adaptive_avg_pool2d(reader));
  pool.fixed_point = reader.fixed_point(1, 1);
  return pool;
}

}  // namespace ptqx::engine
