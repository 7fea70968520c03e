#pragma once

// Integer convolution and linear layers on packed weights: u8 activations in NHWC, s8 weights, exact
// int32 accumulators, the fused Tail of kernels/types.h. No im2col, no indirection buffer, no padding:
// output pixels are grouped into rectangles that share their valid taps, and the rest is skipped.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/executor.h"
#include "kernels/types.h"

namespace ptqx::engine {

struct Conv2dShape {
  int64_t in_channels, out_channels, kernel_h, kernel_w;
  int64_t stride_h = 1, stride_w = 1;
  int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  int64_t dilation_h = 1, dilation_w = 1;
  int64_t groups = 1;

  int64_t output_h(int64_t h) const {
    return (h + pad_top + pad_bottom - dilation_h * (kernel_h - 1) - 1) / stride_h + 1;
  }
  int64_t output_w(int64_t w) const {
    return (w + pad_left + pad_right - dilation_w * (kernel_w - 1) - 1) / stride_w + 1;
  }
};

/// Multiply-accumulates of one image of h x w, taps on padding included, as published figures count them.
int64_t nominal_macs(const Conv2dShape& shape, int64_t h, int64_t w);
/// Without them.
int64_t useful_macs(const Conv2dShape& shape, int64_t h, int64_t w);

/// Weights of one layer in the layout of the kernel that the current ISA ceiling chooses. Immutable
/// once built: any number of threads and engines may share it.
class PackedConv2d {
 public:
  /// `weight` is OIHW int8, I = in_channels / groups. `weight_zero_point` is null or [out_channels]
  /// (uint8 weights w come in as w - 128 with zero points z - 128). `group_size` > 0 asks for
  /// accumulators per group of that many input channels (a multiple of 4, groups == 1), for weights
  /// with a scale per output channel and group. Throws std::invalid_argument with the argument's name.
  PackedConv2d(const Conv2dShape& shape, const int8_t* weight, const int32_t* weight_zero_point = nullptr,
               int64_t group_size = 0);
  /// A binary layer: inputs and weights are signs, eight a byte as kernels::pack_signs leaves them, and
  /// `shape.in_channels` counts bytes, a multiple of 4, that hold `signs` of them; groups == 1. Accumulators
  /// are dot products of +1 and -1; taps on padding are left out. The input's zero point is 0.
  static PackedConv2d binary(const Conv2dShape& shape, const uint8_t* weight, int64_t signs);
  ~PackedConv2d();
  PackedConv2d(PackedConv2d&&) noexcept;
  PackedConv2d& operator=(PackedConv2d&&) noexcept;

  /// Gives up what zero points need: from now on every input's is 0.
  void forget_zero_points();

  const Conv2dShape& shape() const;
  const char* kernel_name() const;  // the row that the weights are packed for
  bool suits_tiles() const;         // rows of kernels/tile_gemm.h may run too
  size_t bytes() const;             // memory held
  /// Bytes after the end of the input that kernels may read (never used in the result).
  size_t input_slack() const;

  struct Impl;
  const Impl& impl() const { return *impl_; }

 private:
  explicit PackedConv2d(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Which pixels of an image of h x w a convolution gives.
struct OutputGrid {
  int64_t h, w;
  int64_t first_y = 0, first_x = 0;
  int64_t step_y = 1, step_x = 1;
};

/// What a layer is applied to, but for addresses.
struct Conv2dCall {
  int64_t n, h, w;
  int32_t input_zero_point = 0;
  bool zero_point_per_sample = false;   // Conv2dData::input_zero_points instead of input_zero_point
  bool scale_per_sample = false;        // t = float32(acc) * (sample_scale[n] * multiplier[c]) + bias_f32
  std::optional<OutputGrid> grid = {};  // without one, its outputs are the whole image
  /// Per-group weights: multiplier is [groups of input channels][out_channels], and
  /// t = sum over ascending groups of float32(acc_g) * m_g, then + bias_f32; bias must be null.
  /// Tail::residual is of no account: each run brings its own.
  kernels::Tail tail;
};

/// The addresses of one run.
struct Conv2dData {
  const uint8_t* input;               // [n][h][w][in_channels] codes, readable for input_slack() bytes more
  const uint8_t* residual = nullptr;  // laid out like the output; may be the output, if that is codes
  const int32_t* input_zero_points = nullptr;  // [n]
  const float* sample_scale = nullptr;         // [n]
  void* output;  // [n][oh][ow][out_channels], or of the grid's image, of uint8_t, int32_t or float, by
                 // tail.output
};

/// The ways to compute a call, by name. All give the same integers. The first is what the cost model takes.
std::vector<std::string> conv2d_strategies(const PackedConv2d& weight, const Conv2dCall& call, int threads);

/// A layer made ready for inputs of one shape: which pixels meet which panels, where accumulators start,
/// and how the work is split. Made once and run many times, by any number of threads at the same time. The
/// weight and what the tail points to must live as long.
class Conv2dPlan {
 public:
  /// `threads` is how many workers the work is split for, `strategy` one of conv2d_strategies; whatever is
  /// none of them means the first. Throws std::invalid_argument if the padded input is smaller than the
  /// kernel.
  Conv2dPlan(const PackedConv2d& weight, const Conv2dCall& call, int threads,
             const std::string& strategy = {});
  ~Conv2dPlan();
  Conv2dPlan(Conv2dPlan&&) noexcept;
  Conv2dPlan& operator=(Conv2dPlan&&) noexcept;

  /// The one that was chosen.
  const std::string& strategy() const { return strategy_; }
  const char* kernel_name() const;  // the row that multiplies
  /// Parts of the output that can be computed in any order.
  int64_t items() const;
  /// Memory that every worker needs while it runs. It is shared with other plans, and not the caller's
  /// affair.
  size_t scratch_bytes() const;
  void run(const Conv2dData& data, int64_t begin, int64_t end) const;

  class Driver;

 private:
  std::string strategy_;
  std::unique_ptr<const Driver> driver_;
};

/// Plans and runs.
void conv2d(const PackedConv2d& weight, const Conv2dCall& call, const Conv2dData& data,
            const Executor& executor);

/// A linear layer is a 1x1 convolution of n images of one pixel.
inline Conv2dShape linear_shape(int64_t in_features, int64_t out_features) {
  return {.in_channels = in_features, .out_channels = out_features, .kernel_h = 1, .kernel_w = 1};
}

}  // namespace ptqx::engine
