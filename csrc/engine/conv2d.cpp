#include "engine/conv2d.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "engine/conv2d_impl.h"

namespace ptqx::engine {
namespace {

void check(const PackedConv2d::Impl& layer, const Conv2dCall& call) {
  const Conv2dShape& s = layer.shape;
  const auto fail = [](const std::string& what) { throw std::invalid_argument("conv2d: " + what); };
  if (call.n < 0) fail("n: expected at least 0, got " + std::to_string(call.n));
  if (call.h + s.pad_top + s.pad_bottom < s.dilation_h * (s.kernel_h - 1) + 1) {
    fail("h: the padded input is smaller than the kernel, got " + std::to_string(call.h));
  }
  if (call.w + s.pad_left + s.pad_right < s.dilation_w * (s.kernel_w - 1) + 1) {
    fail("w: the padded input is smaller than the kernel, got " + std::to_string(call.w));
  }
  const kernels::Tail& tail = call.tail;
  if (tail.output != kernels::Output::kS32 && tail.multiplier == nullptr) {
    fail("tail.multiplier: expected a pointer, got null");
  }
  if (layer.slices > 1 && (tail.bias != nullptr || tail.output == kernels::Output::kS32)) {
    fail("tail: a scale per group of input channels needs a float bias and output");
  }
}

}  // namespace

std::vector<AxisSegment> axis_segments(int64_t outputs, int64_t inputs, int64_t kernel, int64_t stride,
                                       int64_t pad, int64_t dilation) {
  std::vector<AxisSegment> segments;
  const auto on_input = [&](int64_t position) { return position >= 0 && position < inputs; };
  for (int64_t o = 0; o < outputs; ++o) {
    const int64_t origin = o * stride - pad;
    int64_t begin = 0;
    int64_t end = kernel;
    while (begin < end && !on_input(origin + begin * dilation)) ++begin;
    while (end > begin && !on_input(origin + (end - 1) * dilation)) --end;
    if (begin == end) begin = end = 0;
    if (!segments.empty() && segments.back().tap_begin == begin && segments.back().tap_end == end) {
      ++segments.back().end;
    } else {
      segments.push_back({o, o + 1, begin, end});
    }
  }
  return segments;
}

ConvPlan::ConvPlan(const PackedConv2d::Impl& packed, const Conv2dCall& conv_call)
    : layer(packed),
      call(conv_call),
      oh(packed.shape.output_h(conv_call.h)),
      ow(packed.shape.output_w(conv_call.w)) {
  check(layer, call);
  const Conv2dShape& s = layer.shape;
  rows = axis_segments(oh, call.h, s.kernel_h, s.stride_h, s.pad_top, s.dilation_h);
  columns = axis_segments(ow, call.w, s.kernel_w, s.stride_w, s.pad_left, s.dilation_w);
}

bool ConvPlan::corrected_at_start() const {
  return call.input_zero_points == nullptr && layer.zero_points.empty() && layer.slices == 1;
}

size_t ConvPlan::starts_bytes() const {
  const size_t regions = starts_differ() ? rows.size() * columns.size() : 1;
  return regions * static_cast<size_t>(layer.padded) * sizeof(int32_t);
}

const int32_t* ConvPlan::start(const int32_t* starts, size_t row, size_t column) const {
  return starts_differ() ? starts + static_cast<int64_t>(row * columns.size() + column) * layer.padded
                         : starts;
}

void ConvPlan::region_sums(const AxisSegment& row, const AxisSegment& column, int64_t slice, int64_t channel,
                           int64_t count, int32_t* sums) const {
  std::fill_n(sums, count, 0);
  for (int64_t r = row.tap_begin; r < row.tap_end; ++r) {
    for (int64_t t = column.tap_begin; t < column.tap_end; ++t) {
      const int64_t tap = (slice * layer.shape.kernel_h + r) * layer.shape.kernel_w + t;
      const int32_t* tap_sums = layer.tap_sums.data() + tap * layer.padded + channel;
      for (int64_t j = 0; j < count; ++j) sums[j] += tap_sums[j];
    }
  }
}

void ConvPlan::fill_starts(int32_t* starts) const {
  const int64_t padded = layer.padded;
  std::vector<int32_t> bias(static_cast<size_t>(padded), 0);
  if (call.tail.bias != nullptr) {
    for (int64_t oc = 0; oc < layer.shape.out_channels; ++oc) {
      bias[static_cast<size_t>(layer.padded_channel(oc))] = call.tail.bias[oc];
    }
  }
  if (!starts_differ()) {
    std::copy(bias.begin(), bias.end(), starts);
    return;
  }
  std::vector<int32_t> sums(static_cast<size_t>(padded));
  for (const AxisSegment& row : rows) {
    for (const AxisSegment& column : columns) {
      region_sums(row, column, 0, 0, padded, sums.data());
      for (size_t j = 0; j < sums.size(); ++j) {
        *starts++ = subtract_product(bias[j], call.input_zero_point, sums[j]);
      }
    }
  }
}

size_t conv2d_scratch_bytes(const PackedConv2d& weight, const Conv2dCall& call, int /*threads*/) {
  const ConvPlan plan(weight.impl(), call);
  return plan.empty() ? 0 : plan.starts_bytes();
}

void conv2d(const PackedConv2d& weight, const Conv2dCall& call, const Executor& executor, void* scratch) {
  const ConvPlan plan(weight.impl(), call);
  if (plan.empty()) return;
  auto* starts = static_cast<int32_t*>(scratch);
  plan.fill_starts(starts);
  if (weight.impl().depthwise) {
    conv2d_depthwise(plan, executor, starts);
  } else if (suits_taps(plan)) {
    conv2d_taps(plan, executor, starts);
  } else {
    conv2d_dense(plan, executor, starts);
  }
}

}  // namespace ptqx::engine
