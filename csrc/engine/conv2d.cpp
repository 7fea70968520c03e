#include "engine/conv2d.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

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
  if (layer.binary && (call.input_zero_point != 0 || call.zero_point_per_sample)) {
    fail("input_zero_point: expected 0 for a binary layer, got " + std::to_string(call.input_zero_point));
  }
  if (layer.tap_sums.empty() && (call.input_zero_point != 0 || call.zero_point_per_sample)) {
    fail("input_zero_point: expected 0 for a layer that forgot its zero points, got " +
         (call.zero_point_per_sample ? "one per sample" : std::to_string(call.input_zero_point)));
  }
  const kernels::Tail& tail = call.tail;
  const bool fixed_point = tail.output == kernels::Output::kU8FixedPoint;
  const bool takes_multiplier = tail.output != kernels::Output::kS32 && !fixed_point;
  if (takes_multiplier && tail.multiplier == nullptr) {
    fail("tail.multiplier: expected a pointer, got null");
  }
  if (fixed_point && (tail.fixed_multiplier == nullptr || tail.shift == nullptr)) {
    fail("tail.fixed_multiplier, tail.shift: expected pointers, got null");
  }
  if (layer.slices > 1 && (tail.bias != nullptr || !takes_multiplier)) {
    fail("tail: a scale per group of input channels needs a float bias and output");
  }
  if (fixed_point && (call.scale_per_sample || tail.residual_multiplier != 0.0F)) {
    fail("tail: without floats there is neither a scale per sample nor a residual");
  }
}

/// Pairs of output and tap that meet on the input, along one axis.
int64_t meetings(const std::vector<AxisSegment>& segments) {
  int64_t count = 0;
  for (const AxisSegment& segment : segments) count += segment.size() * segment.taps();
  return count;
}

/// The dot product of n signs is n - 2 * popcount, and the kernel gives the latter: n is what tap_sums hold,
/// and a zero point of -1 adds them for every tap that is not on padding.
Conv2dCall counted_signs(Conv2dCall call) {
  call.input_zero_point = -1;
  return call;
}

}  // namespace

int64_t nominal_macs(const Conv2dShape& s, int64_t h, int64_t w) {
  return s.output_h(h) * s.output_w(w) * s.kernel_h * s.kernel_w * s.out_channels *
         (s.in_channels / s.groups);
}

int64_t useful_macs(const Conv2dShape& s, int64_t h, int64_t w) {
  const auto rows = axis_segments(s.output_h(h), h, s.kernel_h, s.stride_h, s.pad_top, s.dilation_h);
  const auto columns = axis_segments(s.output_w(w), w, s.kernel_w, s.stride_w, s.pad_left, s.dilation_w);
  return meetings(rows) * meetings(columns) * s.out_channels * (s.in_channels / s.groups);
}

BlockPool& conv2d_scratch() {
  static BlockPool pool(std::max(std::thread::hardware_concurrency(), 1U));
  return pool;
}

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

ConvGeometry::ConvGeometry(const PackedConv2d::Impl& packed, const Conv2dCall& conv_call)
    : layer(packed),
      call(packed.binary ? counted_signs(conv_call) : conv_call),
      oh(packed.shape.output_h(conv_call.h)),
      ow(packed.shape.output_w(conv_call.w)),
      tail_bounded(kernels::tail_is_bounded(conv_call.tail, packed.shape.out_channels)),
      grid_(conv_call.grid.value_or(OutputGrid{.h = oh, .w = ow})) {
  check(layer, conv_call);
  const Conv2dShape& s = layer.shape;
  rows = axis_segments(oh, call.h, s.kernel_h, s.stride_h, s.pad_top, s.dilation_h);
  columns = axis_segments(ow, call.w, s.kernel_w, s.stride_w, s.pad_left, s.dilation_w);
  fill_starts();
}

bool ConvGeometry::corrected_at_start() const {
  return !call.zero_point_per_sample && layer.zero_points.empty() && layer.slices == 1;
}

int64_t ConvGeometry::products() const { return meetings(rows) * meetings(columns); }

const int32_t* ConvGeometry::start(size_t row, size_t column) const {
  const size_t region = starts_differ() ? row * columns.size() + column : 0;
  return starts_.data() + static_cast<int64_t>(region) * layer.padded;
}

void ConvGeometry::region_sums(const AxisSegment& row, const AxisSegment& column, int64_t slice,
                               int64_t channel, int64_t count, int32_t* sums) const {
  std::fill_n(sums, count, 0);
  for (int64_t r = row.tap_begin; r < row.tap_end; ++r) {
    for (int64_t t = column.tap_begin; t < column.tap_end; ++t) {
      const int64_t tap = (slice * layer.shape.kernel_h + r) * layer.shape.kernel_w + t;
      const int32_t* tap_sums = layer.tap_sums.data() + tap * layer.padded + channel;
      for (int64_t j = 0; j < count; ++j) sums[j] += tap_sums[j];
    }
  }
}

void ConvGeometry::fill_starts() {
  const auto padded = static_cast<size_t>(layer.padded);
  starts_.assign(padded, 0);
  if (call.tail.bias != nullptr) {
    for (int64_t oc = 0; oc < layer.shape.out_channels; ++oc) {
      starts_[static_cast<size_t>(layer.padded_channel(oc))] = call.tail.bias[oc];
    }
  }
  if (!starts_differ()) return;
  const std::vector<int32_t> bias = std::move(starts_);
  std::vector<int32_t> sums(padded);
  starts_.clear();
  starts_.reserve(rows.size() * columns.size() * padded);
  for (const AxisSegment& row : rows) {
    for (const AxisSegment& column : columns) {
      region_sums(row, column, 0, 0, layer.padded, sums.data());
      for (size_t j = 0; j < padded; ++j) {
        starts_.push_back(subtract_product(bias[j], call.input_zero_point, sums[j]));
      }
    }
  }
}

namespace {

constexpr const char* kRows = "rows";
constexpr const char* kByTaps = "taps";
constexpr const char* kWinograd = "winograd";
struct TileStrategy {
  const char* name;
  TileRows rows;
};
constexpr TileStrategy kTileStrategies[] = {{"tiles", TileRows::kValid},
                                            {"tiles with padding", TileRows::kWhole},
                                            {"tiles of lines", TileRows::kLines},
                                            {"tiles of pairs", TileRows::kPairs},
                                            {"tiles of samples", TileRows::kSamples}};

std::string name_of(const DenseSplit& split) {
  return "regions " + std::to_string(split.chunk_pixels) + "x" + std::to_string(split.block_panels);
}

std::vector<std::string> strategies_of(const ConvGeometry& geometry, int threads) {
  if (geometry.layer.depthwise) return {kRows};
  std::vector<std::string> names;
  for (const DenseSplit& split : dense_splits(geometry, threads)) names.push_back(name_of(split));
  if (can_run_by_taps(geometry)) names.insert(suits_taps(geometry) ? names.begin() : names.end(), kByTaps);
  if (can_run_winograd(geometry)) {
    names.insert(suits_winograd(geometry) ? names.begin() : names.end(), kWinograd);
  }
  const std::optional<TileRows> suitable = suitable_tiles(geometry);
  for (const TileStrategy& tiles : kTileStrategies) {
    if (!can_run_tiles(geometry, tiles.rows)) continue;
    names.insert(tiles.rows == suitable ? names.begin() : names.end(), tiles.name);
  }
  return names;
}

std::string known_strategy(const ConvGeometry& geometry, int threads, const std::string& wanted) {
  const std::vector<std::string> names = strategies_of(geometry, threads);
  return std::find(names.begin(), names.end(), wanted) != names.end() ? wanted : names.front();
}

std::unique_ptr<const Conv2dPlan::Driver> make_driver(ConvGeometry geometry, int threads,
                                                      const std::string& strategy) {
  if (strategy == kRows) return depthwise_driver(std::move(geometry), threads);
  if (strategy == kWinograd) return winograd_driver(std::move(geometry), threads);
  for (const TileStrategy& tiles : kTileStrategies) {
    if (strategy == tiles.name) return tiles_driver(std::move(geometry), threads, tiles.rows);
  }
  if (strategy == kByTaps) return taps_driver(std::move(geometry));
  for (const DenseSplit& split : dense_splits(geometry, threads)) {
    if (name_of(split) == strategy) return dense_driver(std::move(geometry), split);
  }
  throw std::logic_error("no driver for strategy " + strategy);
}

}  // namespace

std::vector<std::string> conv2d_strategies(const PackedConv2d& weight, const Conv2dCall& call, int threads) {
  return strategies_of(ConvGeometry(weight.impl(), call), threads);
}

Conv2dPlan::Conv2dPlan(const PackedConv2d& weight, const Conv2dCall& call, int threads,
                       const std::string& strategy) {
  ConvGeometry geometry(weight.impl(), call);
  strategy_ = known_strategy(geometry, threads, strategy);
  driver_ = make_driver(std::move(geometry), threads, strategy_);
}
Conv2dPlan::~Conv2dPlan() = default;
Conv2dPlan::Conv2dPlan(Conv2dPlan&&) noexcept = default;
Conv2dPlan& Conv2dPlan::operator=(Conv2dPlan&&) noexcept = default;

int64_t Conv2dPlan::items() const { return driver_->items(); }
const char* Conv2dPlan::kernel_name() const { return driver_->kernel_name(); }
size_t Conv2dPlan::scratch_bytes() const { return driver_->scratch_bytes(); }

void Conv2dPlan::run(const Conv2dData& data, int64_t begin, int64_t end) const {
  driver_->run(data, begin, end);
}

void conv2d(const PackedConv2d& weight, const Conv2dCall& call, const Conv2dData& data,
            const Executor& executor) {
  const Conv2dPlan plan(weight, call, executor.threads());
  executor.parallel_for(plan.items(), [&](int64_t begin, int64_t end) { plan.run(data, begin, end); });
}

}  // namespace ptqx::engine
