#pragma once

// Reads one node of the graph document: every access checks, and every Error names the node. The
// readers of each family of operations (read_*.cpp) are written with it. Private to the engine.

#include <array>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "engine/json.h"
#include "engine/program.h"

namespace ptqx::engine {

inline constexpr int64_t kMaxExtent = int64_t{1} << 20;  // strides, padding, kernel sizes, factors

class NodeReader {
 public:
  /// `nodes` are those already read; `entry` is the document's of `node`, whose name, op and inputs are set.
  NodeReader(const nlohmann::json& entry, const Container& container, const std::vector<Node>& nodes,
             Node& node);

  [[noreturn]] void fail(const std::string& message) const;
  void require(bool holds, const char* message) const {
    if (!holds) fail(message);
  }

  size_t inputs() const { return node_.inputs.size(); }
  const Value& input(size_t index = 0) const {
    return nodes_[static_cast<size_t>(node_.inputs[index])].output;
  }
  /// What the node gives. The dtype and qparams have been read; the shape is for the reader to set.
  Value& output() { return node_.output; }

  void require_codes(size_t index) const;
  /// All inputs and the output are codes, or all are float32.
  void require_one_dtype() const;
  /// The output holds the input's codes unchanged.
  void require_moved_codes(size_t index = 0) const;
  void require_spatial(size_t index = 0) const;

  // Attributes. Without `fallback`, a missing one is an Error.
  bool has(const char* name) const;
  int64_t integer(const char* name, int64_t low, int64_t high);
  int64_t integer_or(const char* name, int64_t fallback, int64_t low, int64_t high);
  double positive(const char* name);  // and finite
  /// `count` finite numbers; a missing attribute is none.
  std::vector<double> reals_or_none(const char* name, size_t count);
  bool boolean_or(const char* name, bool fallback);
  std::string text_or(const char* name, const std::string& fallback);
  std::vector<int64_t> integers(const char* name, size_t count, int64_t low, int64_t high);
  /// Any number of them from 1 to `most`.
  std::vector<int64_t> some_integers(const char* name, size_t most, int64_t low, int64_t high);
  std::vector<int64_t> integers_or(const char* name, std::vector<int64_t> fallback, int64_t low,
                                   int64_t high);
  ActivationSpec activation();
  /// Bounds, and constants for so many terms and channels; what the activation adds is in the bounds.
  FixedPoint fixed_point(int64_t terms, int64_t channels);

  // Tensors.
  bool has_tensor(const char* role) const;
  const TensorView& tensor(const char* role, DType dtype, const std::vector<int64_t>& shape);
  /// 1 or `channels` elements, finite.
  std::vector<float> finite_f32(const char* role, int64_t channels);
  /// 1 or `channels` elements, given as `channels` of them. Only after a tensor of as many rows was
  /// read, so that what is allocated is bounded by the file.
  std::vector<float> channel_f32(const char* role, int64_t channels);
  std::vector<int32_t> channel_s32(const char* role, int64_t channels);
  /// The dtype, or the shape, of a tensor that is allowed several.
  DType tensor_dtype(const char* role) const;
  const std::vector<int64_t>& tensor_shape(const char* role) const;

  /// Refuses attributes and tensors that no reader asked for: they might change the numbers.
  void finish() const;

 private:
  void read_output();
  const nlohmann::json& attribute(const char* name);
  const TensorView& named_tensor(const std::string& role, const nlohmann::json& name) const;
  const TensorView& channel_tensor(const char* role, DType dtype, int64_t channels);

  const nlohmann::json& json_;
  const Container& container_;
  const std::vector<Node>& nodes_;
  Node& node_;
  std::set<std::string> used_attributes_, used_tensors_;
};

/// [channels, height, width], [channels, length] or [features].
void set_shape(Value& value, const std::vector<int64_t>& shape);

/// scale > 0, finite and at least 2^-64.
bool valid_scale(float scale);

/// The elements of a tensor of 4-byte numbers, whatever its alignment.
template <class T>
std::vector<T> elements(const TensorView& tensor);

// The readers, by operation. Each sets node.operation's value and the shape of the output.
Operation read_constant(NodeReader& reader);
Operation read_quantize(NodeReader& reader);
Operation read_dequantize(NodeReader& reader);
Operation read_conv2d(NodeReader& reader);
Operation read_conv2d_fixed_point(NodeReader& reader);
Operation read_linear(NodeReader& reader);
Operation read_linear_fixed_point(NodeReader& reader);
Operation read_binary_conv2d(NodeReader& reader);
Operation read_binary_linear(NodeReader& reader);
Operation read_conv2d_dynamic(NodeReader& reader);
Operation read_linear_dynamic(NodeReader& reader);
Operation read_max_pool2d(NodeReader& reader);
Operation read_avg_pool2d(NodeReader& reader);
Operation read_avg_pool2d_fixed_point(NodeReader& reader);
Operation read_adaptive_avg_pool2d(NodeReader& reader);
Operation read_adaptive_avg_pool2d_fixed_point(NodeReader& reader);
Operation read_add(NodeReader& reader);
Operation read_add_fixed_point(NodeReader& reader);
Operation read_mul(NodeReader& reader);
Operation read_mul_fixed_point(NodeReader& reader);
Operation read_activation(NodeReader& reader);
Operation read_lookup(NodeReader& reader);
Operation read_layer_norm(NodeReader& reader);
Operation read_group_norm(NodeReader& reader);
Operation read_softmax(NodeReader& reader);
Operation read_matmul(NodeReader& reader);
Operation read_cat(NodeReader& reader);
Operation read_flatten(NodeReader& reader);
Operation read_reshape(NodeReader& reader);
Operation read_permute(NodeReader& reader);
Operation read_slice(NodeReader& reader);
Operation read_channel_shuffle(NodeReader& reader);
Operation read_pad(NodeReader& reader);
Operation read_pixel_shuffle(NodeReader& reader);
Operation read_pixel_unshuffle(NodeReader& reader);
Operation read_upsample_nearest2d(NodeReader& reader);
Operation read_upsample_zeros2d(NodeReader& reader);
Operation read_upsample_bilinear2d(NodeReader& reader);

}  // namespace ptqx::engine
