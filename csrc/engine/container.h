#pragma once

// The .ptqx file: a safetensors file whose metadata holds the graph and a checksum.
//
//   [8 bytes: header length n, little endian][n bytes: JSON header][tensor bytes]
//   header  {"__metadata__": {"format": "ptqx", "version": "1", "graph": "<JSON>", "sha256": "<hex>"},
//            "features.0.weight": {"dtype": "I8", "shape": [64, 3, 3, 3], "data_offsets": [0, 1728]}, ...}
//   sha256  over the graph, then per tensor in ascending order of name: name NUL dtype NUL shape NUL data,
//           the shape as decimal numbers with commas between.

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ptqx::engine {

enum class DType : uint8_t { kF32, kI32, kI8, kU8 };

/// "F32", "I32", "I8", "U8": the names that safetensors uses.
const char* dtype_name(DType dtype);
size_t dtype_size(DType dtype);

/// A tensor in somebody else's memory. `data` may be misaligned for its dtype.
struct TensorView {
  DType dtype;
  std::vector<int64_t> shape;
  std::span<const uint8_t> data;
};

using TensorViews = std::map<std::string, TensorView>;

/// A checked .ptqx file: what it holds is whole and unaltered. Whether the graph makes sense is for
/// read_program (program.h) to say.
class Container {
 public:
  /// Reads a file. Throws Error, and allocates no more than the file's own size and a small multiple of
  /// its header's.
  static Container open(const std::string& path);

  /// The same from memory, which must outlive the result.
  static Container view(std::span<const uint8_t> bytes);

  const std::string& graph() const { return graph_; }
  const TensorViews& tensors() const { return tensors_; }

 private:
  void read_header(std::string_view header, uint64_t data_size);
  void attach_data(std::span<const uint8_t> data);

  std::string graph_;
  std::string sha256_;
  TensorViews tensors_;
  std::vector<uint64_t> offsets_;  // of each tensor, in the order of tensors_
  std::vector<uint8_t> storage_;   // tensor bytes, if the container owns them
};

/// The bytes of a .ptqx file. Throws Error if a tensor's bytes don't fit its dtype and shape.
std::vector<uint8_t> container_bytes(const std::string& graph, const TensorViews& tensors);

/// Writes a .ptqx file beside `path` and renames it, so that a reader sees the old file or the new one.
void write_container(const std::string& path, const std::string& graph, const TensorViews& tensors);

}  // namespace ptqx::engine
