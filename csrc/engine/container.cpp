#include "engine/container.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <limits>
#include <new>
#include <optional>

#include "engine/engine.h"
#include "engine/json.h"
#include "engine/sha256.h"
#include "engine/text.h"

namespace ptqx::engine {
namespace {

constexpr uint64_t kLengthBytes = 8;
constexpr uint8_t kGzip[] = {0x1f, 0x8b, 0x08};  // how a gzip file begins; as a length it would be odd
constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kMaxRank = 8;
constexpr const char* kMetadata = "__metadata__";
constexpr const char* kVersion = "1";

struct DTypeRow {
  DType dtype;
  const char* name;
  size_t size;
};
constexpr DTypeRow kDTypes[] = {
    {DType::kF32, "F32", 4}, {DType::kI32, "I32", 4}, {DType::kI8, "I8", 1}, {DType::kU8, "U8", 1}};

/// Bytes of a tensor, or nothing on overflow or a negative size.
std::optional<uint64_t> tensor_bytes(DType dtype, const std::vector<int64_t>& shape) {
  uint64_t bytes = dtype_size(dtype);
  for (const int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes)) return std::nullopt;
  }
  return bytes;
}

std::string checksum(const std::string& graph, const TensorViews& tensors) {
  Sha256 sha256;
  sha256.update(graph.data(), graph.size());
  const auto update_with_nul = [&](const std::string& text) { sha256.update(text.c_str(), text.size() + 1); };
  for (const auto& [name, tensor] : tensors) {
    update_with_nul(name);
    update_with_nul(dtype_name(tensor.dtype));
    update_with_nul(join(tensor.shape, ","));
    sha256.update(tensor.data.data(), tensor.data.size());
  }
  return sha256.hex_digest();
}

uint64_t header_length(const uint8_t* bytes, uint64_t file_size) {
  uint64_t length = 0;
  for (uint64_t i = kLengthBytes; i-- > 0;) length = length << 8 | bytes[i];
  if (std::equal(std::begin(kGzip), std::end(kGzip), bytes)) {
    throw Error("is compressed: unpack it with gunzip first");
  }
  if (length > kMaxHeaderBytes || length > file_size - kLengthBytes) {
    throw Error("is not a .ptqx file, or is truncated: it announces a header of " + std::to_string(length) +
                " bytes and has " + std::to_string(file_size) + " in all");
  }
  return length;
}

struct TensorEntry {
  DType dtype;
  std::vector<int64_t> shape;
  uint64_t begin, end;
};

/// One {"dtype": ..., "shape": [...], "data_offsets": [begin, end]}.
TensorEntry read_entry(const std::string& name, const nlohmann::json& json) {
  const auto fail = [&](const std::string& message) {
    return Error("has a header whose entry " + quote(name) + " " + message);
  };
  if (!json.is_object() || json.size() != 3 || !json.contains("dtype") || !json.contains("shape") ||
      !json.contains("data_offsets")) {
    throw fail("must have dtype, shape and data_offsets, and nothing else");
  }
  TensorEntry entry{};
  const nlohmann::json& dtype = json["dtype"];
  const auto* row = std::find_if(std::begin(kDTypes), std::end(kDTypes), [&](const DTypeRow& candidate) {
    return dtype.is_string() && dtype.get_ref<const std::string&>() == candidate.name;
  });
  if (row == std::end(kDTypes)) throw fail("must have the dtype F32, I32, I8 or U8");
  entry.dtype = row->dtype;

  const auto number = [&](const nlohmann::json& value, const char* what) {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > std::numeric_limits<int64_t>::max()) {
      throw fail(std::string("must have whole numbers from 0 in its ") + what);
    }
    return value.get<uint64_t>();
  };
  const nlohmann::json& shape = json["shape"];
  if (!shape.is_array() || shape.size() > kMaxRank) throw fail("must have a shape of at most 8 dimensions");
  for (const auto& size : shape) entry.shape.push_back(static_cast<int64_t>(number(size, "shape")));
  const nlohmann::json& offsets = json["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2) throw fail("must have two data_offsets");
  entry.begin = number(offsets[0], "data_offsets");
  entry.end = number(offsets[1], "data_offsets");

  const auto bytes = tensor_bytes(entry.dtype, entry.shape);
  if (entry.begin > entry.end || !bytes || *bytes != entry.end - entry.begin) {
    throw fail("has data_offsets that do not fit its dtype and shape");
  }
  return entry;
}

const std::string& metadata_string(const nlohmann::json& metadata, const char* key) {
  const auto found = metadata.find(key);
  if (found == metadata.end()) {
    throw Error(std::string("is not a .ptqx file: its header has no __metadata__ entry \"") + key + "\"");
  }
  return found->get_ref<const std::string&>();
}

/// A file descriptor that closes itself.
class File {
 public:
  explicit File(int descriptor) : descriptor_(descriptor) {}
  ~File() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int get() const { return descriptor_; }

  void read(void* data, size_t size) const {
    auto* bytes = static_cast<char*>(data);
    while (size > 0) {
      const ssize_t part = ::read(descriptor_, bytes, size);
      if (part < 0 && errno == EINTR) continue;
      if (part < 0) throw Error(std::string("can't be read: ") + std::strerror(errno));
      if (part == 0) throw Error("became shorter while it was read");
      bytes += part, size -= static_cast<size_t>(part);
    }
  }

  bool write(const void* data, size_t size) const {
    const auto* bytes = static_cast<const char*>(data);
    while (size > 0) {
      const ssize_t part = ::write(descriptor_, bytes, size);
      if (part < 0 && errno == EINTR) continue;
      if (part < 0) return false;
      bytes += part, size -= static_cast<size_t>(part);
    }
    return true;
  }

 private:
  int descriptor_;
};

}  // namespace

const char* dtype_name(DType dtype) { return kDTypes[static_cast<size_t>(dtype)].name; }
size_t dtype_size(DType dtype) { return kDTypes[static_cast<size_t>(dtype)].size; }

void Container::read_header(std::string_view header, uint64_t data_size) {
  if (!header.starts_with('{')) throw Error("is not a .ptqx file: its header is not a JSON object");
  const nlohmann::json json = parse_json(header, "has a header that");
  const auto metadata = json.find(kMetadata);
  if (metadata == json.end() || !metadata->is_object()) {
    throw Error("is not a .ptqx file: its header has no __metadata__");
  }
  for (const auto& [key, value] : metadata->items()) {
    if (!value.is_string()) throw Error("has a __metadata__ entry " + quote(key) + " that is not a string");
  }
  if (metadata_string(*metadata, "format") != "ptqx")
    throw Error("is a safetensors file, but not a .ptqx file");
  const std::string& version = metadata_string(*metadata, "version");
  if (version != kVersion) {
    throw Error("has version " + quote(version) + "; this build of ptqx reads version " + kVersion);
  }
  graph_ = metadata_string(*metadata, "graph");
  sha256_ = metadata_string(*metadata, "sha256");

  std::vector<std::pair<uint64_t, uint64_t>> extents;
  for (const auto& [name, value] : json.items()) {
    if (name == kMetadata) continue;
    TensorEntry entry = read_entry(name, value);
    extents.emplace_back(entry.begin, entry.end);
    offsets_.push_back(entry.begin);
    tensors_.emplace(name, TensorView{entry.dtype, std::move(entry.shape), {}});
  }
  std::sort(extents.begin(), extents.end());
  uint64_t end = 0;
  for (const auto& [tensor_begin, tensor_end] : extents) {
    if (tensor_begin != end)
      throw Error("has tensors that overlap or leave a gap at byte " + std::to_string(end));
    end = tensor_end;
  }
  if (end != data_size) {
    throw Error("is truncated or has bytes too many: its tensors take " + std::to_string(end) + " bytes, " +
                std::to_string(data_size) + " follow the header");
  }
}

void Container::attach_data(std::span<const uint8_t> data) {
  size_t index = 0;
  for (auto& [name, tensor] : tensors_) {
    tensor.data = data.subspan(offsets_[index++], *tensor_bytes(tensor.dtype, tensor.shape));
  }
  if (checksum(graph_, tensors_) != sha256_)
    throw Error("is damaged or was altered: its checksum does not match");
}

Container Container::view(std::span<const uint8_t> bytes) try {
  if (bytes.size() < kLengthBytes)
    throw Error("is not a .ptqx file, or is truncated: it has fewer than 8 bytes");
  const uint64_t length = header_length(bytes.data(), bytes.size());
  const std::span<const uint8_t> data = bytes.subspan(kLengthBytes + length);
  Container container;
  const auto* header = reinterpret_cast<const char*>(bytes.data() + kLengthBytes);
  container.read_header({header, length}, data.size());
  container.attach_data(data);
  return container;
} catch (const Error& error) {
  throw Error(std::string("the buffer ") + error.what());
}

Container Container::open(const std::string& path) try {
  const File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status {};
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0) {
    throw Error(std::string("can't be opened: ") + std::strerror(errno));
  }
  if (!S_ISREG(status.st_mode)) throw Error("is not a regular file");
  const auto size = static_cast<uint64_t>(status.st_size);
  if (size < kLengthBytes) throw Error("is not a .ptqx file, or is truncated: it has fewer than 8 bytes");

  uint8_t length_bytes[kLengthBytes];
  file.read(length_bytes, kLengthBytes);
  std::string header(header_length(length_bytes, size), '\0');
  file.read(header.data(), header.size());
  Container container;
  container.read_header(header, size - kLengthBytes - header.size());
  container.storage_.resize(size - kLengthBytes - header.size());
  file.read(container.storage_.data(), container.storage_.size());
  container.attach_data(container.storage_);
  return container;
} catch (const Error& error) {
  throw Error(path + " " + error.what());
}

std::vector<uint8_t> container_bytes(const std::string& graph, const TensorViews& tensors) {
  nlohmann::json header;
  header[kMetadata] = {
      {"format", "ptqx"}, {"version", kVersion}, {"graph", graph}, {"sha256", checksum(graph, tensors)}};
  // Wide types first, so that a reader that maps the file finds every tensor aligned.
  std::vector<TensorViews::const_pointer> order;
  for (const auto& entry : tensors) order.push_back(&entry);
  std::stable_sort(order.begin(), order.end(), [](auto* a, auto* b) {
    return dtype_size(a->second.dtype) > dtype_size(b->second.dtype);
  });
  uint64_t offset = 0;
  for (const auto* entry : order) {
    const auto& [name, tensor] = *entry;
    if (tensor_bytes(tensor.dtype, tensor.shape) != tensor.data.size()) {
      throw Error("tensor " + quote(name) + " has " + std::to_string(tensor.data.size()) +
                  " bytes, not those of " + dtype_name(tensor.dtype) + " [" + join(tensor.shape, ",") + "]");
    }
    const uint64_t end = offset + tensor.data.size();
    header[name] = {
        {"dtype", dtype_name(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception&) {
    throw Error("the graph and the names of tensors must be UTF-8");
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');

  std::vector<uint8_t> bytes;
  bytes.reserve(kLengthBytes + text.size() + offset);
  for (uint64_t i = 0; i < kLengthBytes; ++i) bytes.push_back(static_cast<uint8_t>(text.size() >> (8 * i)));
  bytes.insert(bytes.end(), text.begin(), text.end());
  for (const auto* entry : order)
    bytes.insert(bytes.end(), entry->second.data.begin(), entry->second.data.end());
  return bytes;
}

void write_container(const std::string& path, const std::string& graph, const TensorViews& tensors) {
  const std::vector<uint8_t> bytes = container_bytes(graph, tensors);
  std::string partial = path + ".XXXXXX";
  const auto fail = [&](bool remove) {
    const std::string reason = std::strerror(errno);
    if (remove) ::unlink(partial.c_str());
    throw Error(path + " can't be written: " + reason + "; nothing was changed");
  };
  const File file(::mkostemp(partial.data(), O_CLOEXEC));
  if (file.get() < 0) fail(false);
  const mode_t mask = ::umask(0);
  ::umask(mask);
  if (!file.write(bytes.data(), bytes.size()) || ::fchmod(file.get(), 0666 & ~mask) != 0 ||
      ::fsync(file.get()) != 0 || ::rename(partial.c_str(), path.c_str()) != 0) {
    fail(true);
  }
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const File directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() >= 0) ::fsync(directory.get());  // makes the rename last through a power cut
}

}  // namespace ptqx::engine
