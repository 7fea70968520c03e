#pragma once

// The graph of a .ptqx file, parsed and proven: whoever holds a Program need not check anything again.
// Shapes fit, attributes are in range, codes are inside their bits, and no accumulator can overflow.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "engine/container.h"
#include "engine/conv2d.h"
#include "engine/tuning.h"
#include "kernels/real_function.h"
#include "kernels/types.h"

namespace ptqx::engine {

/// What a node gives, for one sample: [c, h, w] if spatial, else [c] with h = w = 1. The codes or
/// numbers of a spatial value lie in memory as [h][w][c]. A sequence [c, w] is an image of one row.
struct Value {
  bool spatial = false;
  bool sequence = false;
  int64_t c = 1, h = 1, w = 1;
  bool is_float = true;
  float scale = 1.0F;                            // 1 for float32
  int32_t zero_point = 0, qmin = 0, qmax = 255;  // of codes, which are all within [qmin, qmax]

  int64_t pixels() const { return h * w; }
  int64_t size() const { return c * h * w; }
  size_t bytes() const { return static_cast<size_t>(size()) * (is_float ? sizeof(float) : 1); }
  void take_shape(const Value& from) {
    spatial = from.spatial;
    sequence = from.sequence;
    c = from.c;
    h = from.h;
    w = from.w;
  }
  bool same_shape(const Value& other) const {
    return spatial == other.spatial && sequence == other.sequence && c == other.c && h == other.h &&
           w == other.w;
  }
  /// Does NCHW order equal the order in memory?
  bool order_free() const { return c == 1 || pixels() == 1; }
};

/// An activation and the slopes that its args point to once they have come to rest.
struct ActivationSpec {
  kernels::ActivationArgs args;
  std::vector<float> slopes;  // of kPrelu, one per channel
};

/// Requantization without floats: clamp(round(sum of term_i * multiplier_i / 2^shift) + zero_point, low,
/// high).
struct FixedPoint {
  std::vector<int32_t> multiplier;  // [terms][channels]
  std::vector<int32_t> shift;       // [channels]
  int32_t low, high;
};

struct Input {};
/// The same for every sample, whatever the network's input; [h][w][c] in memory.
struct Constant {
  std::vector<float> values;
};
struct Quantize {};
struct Dequantize {};
/// conv2d, linear (a 1x1 kernel on [c]), their dynamic forms, those of signs and those without floats. A
/// second input is the residual.
struct Conv2d {
  Conv2dShape shape;
  std::vector<int8_t> weight = {};              // OIHW
  std::vector<int32_t> weight_zero_point = {};  // empty or [out]
  int64_t group_size = 0;
  std::vector<float> multiplier = {};          // [out], or [groups of input channels][out] if group_size > 0
  std::vector<int32_t> bias = {};              // empty or [out], in units of the accumulator
  std::vector<float> bias_f32 = {};            // empty or [out], in units of the output's scale
  std::optional<FixedPoint> fixed_point = {};  // instead of multiplier and activation
  float residual_multiplier = 0.0F;
  ActivationSpec activation = {};
  bool linear = false;
  bool dynamic = false;
  bool binary = false;  // weights are -1 and 1, inputs codes 0 and 2 around the zero point 1
};
struct Pool2d {
  int64_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
};
struct MaxPool2d {
  Pool2d pool;
  int64_t dilation_h, dilation_w;
};
struct AvgPool2d {
  Pool2d pool;
  bool count_include_pad;
  int64_t divisor;  // 0: the number of elements counted
  std::optional<FixedPoint> fixed_point = {};
};
struct AdaptiveAvgPool2d {
  std::optional<FixedPoint> fixed_point = {};
};
struct Add {
  ActivationSpec activation;
  std::optional<FixedPoint> fixed_point = {};
};
/// Inputs of one shape, or one of them is [c, 1, 1] or [1, h, w].
struct Mul {
  ActivationSpec activation;
  std::optional<FixedPoint> fixed_point = {};
};
/// Of real values.
struct Activate {
  ActivationSpec activation;
};
struct ApplyFunction {
  kernels::RealFunction function;
  double number;
};
struct Lookup {
  std::array<uint8_t, 256> table;
};
/// Over the channels of each pixel, from real values to codes or real values.
struct LayerNorm {
  std::vector<float> weight, bias;  // [channels]
  double eps = 0.0;
};
/// Over the pixels and channels of each group, from real values to codes or real values.
struct GroupNorm {
  int64_t groups = 1;
  std::vector<float> weight, bias;  // [channels]
  double eps = 0.0;
};
/// Over the channels of each pixel, from real values to codes or real values; its logarithm to these alone.
struct Softmax {
  bool log;
};
/// Of a [k, rows, m] and b [k, rows, n] to [n, rows, m]: in memory, each row of a times that of b transposed.
struct Matmul {
  float multiplier;
};
/// Along axis 0 (c), 1 (h) or 2 (w).
struct Cat {
  size_t axis;
};
struct Flatten {};
struct Reshape {};
/// Axis i of the output, of [c, h, w], is axis axes[i] of the input.
struct Permute {
  std::array<size_t, 3> axes;
};
struct Slice {
  int64_t start;
};
struct ChannelShuffle {
  int64_t groups;
};
/// What is around an image: zeros, or what torch.nn.functional.pad takes from the image itself.
enum class PadMode { kConstant, kReflect, kReplicate, kCircular };
/// Rows and columns before the input's; of negative ones, the input's that are left out.
struct Pad {
  int64_t top, left;
  PadMode mode;
};
/// [c * factor^2, h, w] to [c, h * factor, w * factor], as torch.nn.PixelShuffle; the other is its inverse.
struct PixelShuffle {
  int64_t factor;
};
struct PixelUnshuffle {
  int64_t factor;
};
struct UpsampleNearest2d {
  int64_t factor_h, factor_w;
};
/// factor - 1 zeros after every pixel of a row but the last, and so of a column.
struct UpsampleZeros2d {
  int64_t factor_h, factor_w;
};
/// To the size of the output; codes keep scale and zero point.
struct UpsampleBilinear2d {
  bool align_corners;
};

using Operation =
    std::variant<Input, Constant, Quantize, Dequantize, Conv2d, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, Add,
                 Mul, Activate, ApplyFunction, Lookup, LayerNorm, GroupNorm, Softmax, Matmul, Cat, Flatten,
                 Reshape, Permute, Slice, ChannelShuffle, Pad, PixelShuffle, PixelUnshuffle,
                 UpsampleNearest2d, UpsampleZeros2d, UpsampleBilinear2d>;

struct Node {
  std::string name;
  std::string op;                // as the file says it
  std::vector<int> inputs = {};  // indices of earlier nodes
  Operation operation = {};
  Value output = {};
};

/// A tensor that the network returns.
struct NetworkOutput {
  std::string path;  // its place in the tuples, lists and dicts that the network returns (engine.h)
  int node;
  Value value;
};

/// Node 0 is the graph's input.
struct Program {
  std::vector<Node> nodes;
  std::vector<NetworkOutput> outputs = {};
  std::vector<TunedStep> tuned = {};  // empty unless the file was tuned on such a machine
};

/// Parses and proves the graph of `container`. Throws Error.
Program read_program(const Container& container);

}  // namespace ptqx::engine
