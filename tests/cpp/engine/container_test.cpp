#include "engine/container.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "engine/engine.h"
#include "engine/sha256.h"

namespace ptqx::engine {
namespace {

std::string sha256(const std::string& text) {
  Sha256 sha256;
  sha256.update(text.data(), text.size());
  return sha256.hex_digest();
}

TEST(Sha256, digest_of_published_messages) {
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256(std::string(1'000'000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, message_in_pieces_has_the_digest_of_the_whole) {
  const std::string message(300, 'x');
  for (const size_t piece : {1, 55, 63, 64, 65, 128}) {
    Sha256 pieces;
    for (size_t i = 0; i < message.size(); i += piece) {
      pieces.update(message.data() + i, std::min(piece, message.size() - i));
    }
    EXPECT_EQ(pieces.hex_digest(), sha256(message)) << piece;
  }
}

std::vector<uint8_t> with_length(const std::string& header, uint64_t length, const std::string& data) {
  std::vector<uint8_t> bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<uint8_t>(length >> (8 * i)));
  bytes.insert(bytes.end(), header.begin(), header.end());
  bytes.insert(bytes.end(), data.begin(), data.end());
  return bytes;
}

std::vector<uint8_t> raw(const std::string& header, const std::string& data = "") {
  return with_length(header, header.size(), data);
}

/// A header with the given tensor entries and a correct checksum of no tensors.
std::string header(const std::string& entries, const std::string& format = "ptqx",
                   const std::string& version = "1") {
  return R"({"__metadata__":{"format":")" + format + R"(","version":")" + version +
         R"(","graph":"","sha256":")" + sha256("") + "\"}" + (entries.empty() ? "" : "," + entries) + "}";
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":[)" + shape + R"(],"data_offsets":[)" +
         offsets + "]}";
}

struct Violation {
  const char* name;
  std::vector<uint8_t> bytes;
  const char* message;  // part of the error's
};

std::ostream& operator<<(std::ostream& out, const Violation& violation) { return out << violation.name; }

const Violation kViolations[] = {
    {"empty", {}, "fewer than 8 bytes"},
    {"seven_bytes", std::vector<uint8_t>(7, 0), "fewer than 8 bytes"},
    {"gzip", {0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 3, 1, 2}, "gunzip"},
    {"header_longer_than_file", with_length("{}", 3, ""), "announces a header of 3 bytes"},
    {"header_length_all_ones", with_length("{}", ~uint64_t{0}, ""), "announces a header"},
    {"header_over_100_megabytes", with_length("{}", 100'000'001, ""), "announces a header"},
    {"header_empty", raw(""), "not a JSON object"},
    {"header_is_array", raw("[]"), "not a JSON object"},
    {"header_is_not_json", raw("{,}"), "not valid JSON at byte"},
    {"header_is_not_utf8", raw("{\"\xff\":1}"), "not valid JSON"},
    {"header_has_text_after_it", raw(header("") + "{}"), "not valid JSON"},
    {"header_nested_deep", raw("{\"a\":" + std::string(1'000'000, '[')), "nested deeper"},
    {"header_nested_deep_objects", raw([] {
       std::string text;
       for (int i = 0; i < 1000; ++i) text += "{\"a\":";
       return text;
     }()),
     "nested deeper"},
    {"header_with_too_many_values",
     raw("{\"a\":[" +
         [] {
           std::string text;
           for (int i = 0; i < (1 << 20) + 1; ++i) text += "1,";
           return text;
         }() +
         "1]}"),
     "JSON values"},
    {"header_with_number_out_of_range", raw("{\"a\":1e999}"), "not valid JSON"},
    {"metadata_missing", raw("{}"), "no __metadata__"},
    {"metadata_is_array", raw(R"({"__metadata__":[]})"), "no __metadata__"},
    {"metadata_value_is_number", raw(R"({"__metadata__":{"format":1}})"), "not a string"},
    {"metadata_without_graph", raw(R"({"__metadata__":{"format":"ptqx","version":"1"}})"), "\"graph\""},
    {"format_of_others", raw(header("", "pt")), "not a .ptqx file"},
    {"version_2", raw(header("", "ptqx", "2")), "version '2'"},
    {"duplicate_metadata", raw(R"({"__metadata__":{},"__metadata__":{}})"), "twice"},
    {"duplicate_tensor", raw(header(entry("a", "U8", "1", "0,1") + "," + entry("a", "U8", "1", "0,1")), "x"),
     "'a' twice"},
    {"duplicate_key_in_entry", raw(header(R"("a":{"dtype":"U8","dtype":"U8"})")), "twice"},
    {"entry_is_number", raw(header("\"a\":1")), "must have dtype"},
    {"entry_without_offsets", raw(header(R"("a":{"dtype":"U8","shape":[1]})")), "must have dtype"},
    {"entry_with_more", raw(header(R"("a":{"dtype":"U8","shape":[],"data_offsets":[0,1],"x":1})"), "x"),
     "nothing else"},
    {"dtype_unknown", raw(header(entry("a", "F64", "1", "0,8")), "12345678"), "dtype"},
    {"dtype_is_number", raw(header(R"("a":{"dtype":1,"shape":[],"data_offsets":[0,1]})"), "x"), "dtype"},
    {"shape_negative", raw(header(entry("a", "U8", "-1", "0,1")), "x"), "whole numbers"},
    {"shape_fraction", raw(header(entry("a", "U8", "1.0", "0,1")), "x"), "whole numbers"},
    {"shape_above_int64", raw(header(entry("a", "U8", "9223372036854775808", "0,1")), "x"), "whole numbers"},
    {"shape_product_overflows", raw(header(entry("a", "F32", "4611686018427387904,4", "0,0"))), "do not fit"},
    {"shape_product_overflows_before_a_zero",
     raw(header(entry("a", "F32", "4611686018427387904,4,0", "0,0"))), "do not fit"},
    {"shape_of_nine_dimensions", raw(header(entry("a", "U8", "1,1,1,1,1,1,1,1,1", "0,1")), "x"),
     "8 dimensions"},
    {"shape_does_not_fit_offsets", raw(header(entry("a", "I32", "1", "0,1")), "x"), "do not fit"},
    {"offsets_reversed", raw(header(entry("a", "U8", "1", "1,0")), "x"), "do not fit"},
    {"offsets_of_one", raw(header(entry("a", "U8", "1", "0")), "x"), "two data_offsets"},
    {"offsets_beyond_file", raw(header(entry("a", "U8", "100", "0,100")), "x"), "truncated"},
    {"offsets_leave_a_gap", raw(header(entry("a", "U8", "1", "1,2")), "xy"), "gap"},
    {"offsets_overlap", raw(header(entry("a", "U8", "2", "0,2") + "," + entry("b", "U8", "2", "1,3")), "xyz"),
     "overlap"},
    {"bytes_after_the_tensors", raw(header(entry("a", "U8", "1", "0,1")), "xy"), "bytes too many"},
    {"checksum_wrong", raw(header(entry("a", "U8", "1", "0,1")), "x"), "checksum"},
};

class ContainerViolation : public ::testing::TestWithParam<Violation> {};
TEST_P(ContainerViolation, IsOneClearError) {
  try {
    Container::view(GetParam().bytes);
    FAIL() << "no error";
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find(GetParam().message), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    EXPECT_LT(message.size(), 300U) << message;
  }
}
INSTANTIATE_TEST_SUITE_P(Container, ContainerViolation, ::testing::ValuesIn(kViolations),
                         [](const auto& info) { return std::string(info.param.name); });

class TemporaryFolder {
 public:
  TemporaryFolder()
      : path(std::filesystem::temp_directory_path() / ("container_test_" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(path);
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path); }
  std::filesystem::path path;
};

void write_file(const std::filesystem::path& path, const std::vector<uint8_t>& bytes) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

TEST(Container, open_violations_name_the_file) {
  const TemporaryFolder folder;
  const std::string path = folder.path / "hostile.ptqx";
  for (const Violation& violation : kViolations) {
    write_file(path, violation.bytes);
    try {
      Container::open(path);
      ADD_FAILURE() << violation.name << ": no error";
    } catch (const Error& error) {
      EXPECT_EQ(std::string(error.what()).find(path), 0U) << error.what();
      EXPECT_NE(std::string(error.what()).find(violation.message), std::string::npos) << error.what();
    }
  }
}

TEST(Container, open_what_is_no_regular_file_throws) {
  const TemporaryFolder folder;
  const std::string pipe = folder.path / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THROW(Container::open(folder.path / "absent.ptqx"), Error);
  EXPECT_THROW(Container::open(folder.path), Error);
  EXPECT_THROW(Container::open(pipe), Error);
  EXPECT_THROW(Container::open("/dev/zero"), Error);
}

TEST(Container, open_huge_sparse_file_allocates_little) {
  const TemporaryFolder folder;
  const std::string path = folder.path / "sparse.ptqx";
  write_file(path, raw(header("")));
  std::filesystem::resize_file(path, uint64_t{1} << 40);
  EXPECT_THROW(Container::open(path), Error);
}

TEST(Container, view_gives_back_what_container_bytes_took) {
  const std::vector<uint8_t> data = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  const std::span<const uint8_t> all(data);
  const TensorViews tensors = {{"b", {DType::kU8, {3}, all.first(3)}},
                               {"a", {DType::kF32, {1, 2}, all.first(8)}},
                               {"scalar", {DType::kI32, {}, all.subspan(4, 4)}},
                               {"empty", {DType::kI8, {0, 5}, {}}}};
  const std::string graph = "{\"text\": \"\\\"quoted\\\" \u00e9\"}";
  const std::vector<uint8_t> bytes = container_bytes(graph, tensors);
  const Container container = Container::view(bytes);
  EXPECT_EQ(container.graph(), graph);
  ASSERT_EQ(container.tensors().size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const TensorView& read = container.tensors().at(name);
    EXPECT_EQ(read.dtype, tensor.dtype) << name;
    EXPECT_EQ(read.shape, tensor.shape) << name;
    EXPECT_TRUE(std::equal(read.data.begin(), read.data.end(), tensor.data.begin(), tensor.data.end()))
        << name;
  }
}

TEST(Container, view_every_altered_or_missing_byte_is_noticed) {
  const std::vector<uint8_t> data(40, 7);
  const std::vector<uint8_t> bytes = container_bytes("{}", {{"weight", {DType::kI8, {40}, data}}});
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::vector<uint8_t> altered = bytes;
    altered[i] ^= 0x15;
    EXPECT_THROW(Container::view(altered), Error) << "byte " << i << " of " << bytes.size();
    altered = bytes;
    altered.resize(i);
    EXPECT_THROW(Container::view(altered), Error) << "cut at " << i;
  }
}

TEST(Container, container_bytes_wrong_size_or_text_throws) {
  const std::vector<uint8_t> data(3);
  EXPECT_THROW(container_bytes("{}", {{"a", {DType::kI32, {1}, data}}}), Error);
  EXPECT_THROW(container_bytes("{}", {{"a", {DType::kI8, {-3}, data}}}), Error);
  EXPECT_THROW(container_bytes("\xff", {}), Error);
}

TEST(Container, write_container_failure_leaves_the_old_file_and_no_other) {
  const TemporaryFolder folder;
  const std::string path = folder.path / "m.ptqx";
  write_container(path, "{}", {});
  EXPECT_EQ(Container::open(path).graph(), "{}");
  EXPECT_THROW(write_container(folder.path / "absent" / "m.ptqx", "{}", {}), Error);
  std::filesystem::create_directory(folder.path / "folder.ptqx");
  EXPECT_THROW(write_container(folder.path / "folder.ptqx", "{}", {}), Error);
  write_container(path, "{\"new\":1}", {});
  EXPECT_EQ(Container::open(path).graph(), "{\"new\":1}");
  size_t files = 0;
  for ([[maybe_unused]] const auto& file : std::filesystem::directory_iterator(folder.path)) ++files;
  EXPECT_EQ(files, 2U);
}

}  // namespace
}  // namespace ptqx::engine
