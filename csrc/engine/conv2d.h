#pragma once

// Integer convolution and linear layers on packed weights: u8 activations in NHWC, s8 weights, exact
// int32 accumulators, the fused Tail of kernels/types.h. No im2col, no indirection buffer, no padding:
// output pixels are grouped into rectangles that share their valid taps, and the rest is skipped.

#include <cstdint>
#include <memory>
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
  ~PackedConv2d();
  PackedConv2d(PackedConv2d&&) noexcept;
  PackedConv2d& operator=(PackedConv2d&&) noexcept;

  const Conv2dShape& shape() const;
  const char* kernel_name() const;  // the row that runs, for explain and tests
  size_t bytes() const;             // memory held
  /// Bytes after the end of the input that kernels may read (never used in the result).
  size_t input_slack() const;

  struct Impl;
  const Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

/// One call. `input` is [n][h][w][in_channels] codes and must be readable for input_slack() bytes more.
struct Conv2dCall {
  const uint8_t* input;
  int64_t n, h, w;
  int32_t input_zero_point = 0;
  const int32_t* input_zero_points = nullptr;  // [n], one per sample, instead of input_zero_point
  kernels::Tail tail;
  /// Per-group weights: tail.multiplier is [groups of input channels][out_channels], and
  /// t = sum over ascending groups of float32(acc_g) * m_g, then + bias_f32; tail.bias must be null.
  /// Dynamic activations: [n] factors, t = float32(acc) * (sample_scale[n] * multiplier[c]) + bias_f32.
  const float* sample_scale = nullptr;
  void* output;  // [n][oh][ow][out_channels] of uint8_t, int32_t or float, by tail.output
};

/// Bytes of scratch memory that a call needs, on an int32 boundary: where the accumulators of each region
/// start.
size_t conv2d_scratch_bytes(const PackedConv2d& weight, const Conv2dCall& call, int threads);

/// Throws std::invalid_argument if the padded input is smaller than the kernel.
void conv2d(const PackedConv2d& weight, const Conv2dCall& call, const Executor& executor, void* scratch);

/// A linear layer is a 1x1 convolution of n images of one pixel.
inline Conv2dShape linear_shape(int64_t in_features, int64_t out_features) {
  return {.in_channels = in_features, .out_channels = out_features, .kernel_h = 1, .kernel_w = 1};
}

}  // namespace ptqx::engine
