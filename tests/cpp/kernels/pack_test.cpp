#include "kernels/pack.h"

#include "kernel_rows.h"

namespace ptqx::kernels {
namespace {

struct Width {
  int bits;
  std::span<const Row<PackFn>> pack;
  std::span<const Row<UnpackFn>> unpack;
  int64_t bytes(int64_t n) const { return (n * bits + 7) / 8; }
};

std::vector<Width> widths() {
  return {{4, pack_int4_rows(), unpack_int4_rows()},
          {2, pack_int2_rows(), unpack_int2_rows()},
          {1, pack_int1_rows(), unpack_int1_rows()}};
}

TEST(PackRows, test_every_length_equals_the_scalar_truth_and_comes_back) {
  for (const Width& width : widths()) {
    const int half = 1 << (width.bits - 1);
    for (int64_t n : kLengths) {
      SCOPED_TRACE(std::to_string(n) + " codes of " + std::to_string(width.bits) + " bits");
      const std::vector<int8_t> codes = random_codes<int8_t>(n, -half, half - 1);
      GuardedBuffer<uint8_t> truth(width.bytes(n));
      width.pack.front().function(codes.data(), n, truth.data());
      ASSERT_TRUE(truth.guards_intact());
      for_each_vector_row(width.pack, [&](PackFn* pack) {
        GuardedBuffer<uint8_t> packed(width.bytes(n), 3);
        pack(codes.data(), n, packed.data());
        expect_same(truth.values(), packed.values());
        ASSERT_TRUE(packed.guards_intact());
      });
      for (const Row<UnpackFn>& row : width.unpack) {
        if (!isa_supported(row.isa)) continue;
        SCOPED_TRACE(row.name);
        GuardedBuffer<int8_t> back(n);
        row.function(truth.data(), n, back.data());
        expect_same(codes, back.values());
        ASSERT_TRUE(back.guards_intact());
      }
    }
  }
}

TEST(PackRows, test_the_first_code_lies_in_the_lowest_bits) {
  const std::vector<int8_t> codes = {1, -2, 0, -1, 1};
  for (const Row<PackFn>& row : pack_int4_rows()) {
    if (!isa_supported(row.isa)) continue;
    std::vector<uint8_t> packed(3);
    row.function(codes.data(), 5, packed.data());
    EXPECT_EQ(packed, (std::vector<uint8_t>{0xE1, 0xF0, 0x01})) << row.name;
  }
  for (const Row<PackFn>& row : pack_int2_rows()) {
    if (!isa_supported(row.isa)) continue;
    std::vector<uint8_t> packed(2);
    row.function(codes.data(), 5, packed.data());
    EXPECT_EQ(packed, (std::vector<uint8_t>{0b11'00'10'01, 0b01})) << row.name;
  }
}

TEST(PackRows, test_every_byte_unpacks_to_its_signed_codes) {
  std::vector<uint8_t> packed(256);
  for (int byte = 0; byte < 256; ++byte) packed[static_cast<size_t>(byte)] = static_cast<uint8_t>(byte);
  for (const Width& width : widths()) {
    const int per_byte = 8 / width.bits;
    const int levels = 1 << width.bits;
    for (const Row<UnpackFn>& row : width.unpack) {
      if (!isa_supported(row.isa)) continue;
      SCOPED_TRACE(row.name);
      std::vector<int8_t> codes(static_cast<size_t>(256 * per_byte));
      row.function(packed.data(), 256 * per_byte, codes.data());
      for (int i = 0; i < 256 * per_byte; ++i) {
        int digit = i / per_byte;
        for (int k = 0; k < i % per_byte; ++k) digit /= levels;
        digit %= levels;
        ASSERT_EQ(codes[static_cast<size_t>(i)], digit < levels / 2 ? digit : digit - levels) << i;
      }
    }
  }
}

TEST(PackCodes, test_every_width_lies_without_gaps_and_comes_back) {
  for (int bits = 1; bits < 8; ++bits) {
    const int half = 1 << (bits - 1);
    for (const int64_t n : kLengths) {
      SCOPED_TRACE(std::to_string(n) + " codes of " + std::to_string(bits) + " bits");
      const std::vector<int8_t> codes = random_codes<int8_t>(n, -half, half - 1);
      GuardedBuffer<uint8_t> packed(packed_bytes(n, bits), 1);
      pack_codes(codes.data(), n, bits, packed.data());
      ASSERT_TRUE(packed.guards_intact());
      std::vector<uint8_t> truth(static_cast<size_t>(packed_bytes(n, bits)));
      for (int64_t bit = 0; bit < n * bits; ++bit) {
        const int value = codes[static_cast<size_t>(bit / bits)] >> (bit % bits) & 1;
        truth[static_cast<size_t>(bit / 8)] |= static_cast<uint8_t>(value << (bit % 8));
      }
      expect_same(truth, packed.values());
      GuardedBuffer<int8_t> back(n, 1);
      unpack_codes(packed.data(), n, bits, back.data());
      expect_same(codes, back.values());
      ASSERT_TRUE(back.guards_intact());
    }
  }
}

TEST(PackCodes, test_bytes_of_huge_rows_do_not_overflow) {
  EXPECT_EQ(packed_bytes(9, 3), 4);
  EXPECT_EQ(packed_bytes(int64_t{1} << 61, 7), (int64_t{1} << 58) * 7);
}

TEST(PackRows, test_signs_equal_the_definition) {
  for (const int64_t n : kLengths) {
    const std::vector<float> x = edge_values(n, 0.5F, true);
    for (const Row<PackSignsFn>& row : pack_signs_rows()) {
      if (!isa_supported(row.isa)) continue;
      SCOPED_TRACE(row.name);
      GuardedBuffer<uint8_t> packed((n + 31) / 32 * 4);
      row.function(x.data(), n, packed.data());
      EXPECT_TRUE(packed.guards_intact());
      const std::vector<uint8_t> bytes = packed.values();
      for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
        const int expected = bit < x.size() && x[bit] >= 0.0F ? 1 : 0;
        ASSERT_EQ(bytes[bit / 8] >> bit % 8 & 1, expected) << "sign " << bit << " of " << n;
      }
    }
  }
}

TEST(PackRows, test_codes_of_signs_pack_like_the_signs) {
  for (const int64_t n : kLengths) {
    std::vector<uint8_t> codes(static_cast<size_t>(n));
    std::vector<float> centered(codes.size());
    for (size_t i = 0; i < codes.size(); ++i) {
      codes[i] = static_cast<uint8_t>(i * i % 3);
      centered[i] = static_cast<float>(codes[i]) - 1.0F;
    }
    const auto bytes = static_cast<size_t>((n + 31) / 32 * 4);
    GuardedBuffer<uint8_t> packed(static_cast<int64_t>(bytes));
    std::vector<uint8_t> expected(bytes);
    pack_sign_codes(codes.data(), n, packed.data());
    pack_signs(centered.data(), n, expected.data());
    EXPECT_TRUE(packed.guards_intact());
    EXPECT_EQ(packed.values(), expected) << n;
  }
}

}  // namespace
}  // namespace ptqx::kernels
