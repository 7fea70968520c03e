#include "kernels/pack.h"

#include <cstring>

namespace ptqx::kernels {

PackFn pack_int4_scalar, pack_int4_avx2, pack_int4_avx512vnni;

std::span<const Row<PackFn>> pack_int4_rows() {
  static constexpr Row<PackFn> kRows[] = {
      {"pack_int4_scalar", Isa::kScalar, pack_int4_scalar},
      {"pack_int4_avx2", Isa::kAvx2, pack_int4_avx2},
      {"pack_int4_avx512vnni", Isa::kAvx512Vnni, pack_int4_avx512vnni},
  };
  return kRows;
}

void pack_int4(const int8_t* x, int64_t n, uint8_t* packed) {
  best_row(pack_int4_rows()).function(x, n, packed);
}

UnpackFn unpack_int4_scalar, unpack_int4_avx2, unpack_int4_avx512vnni;

std::span<const Row<UnpackFn>> unpack_int4_rows() {
  static constexpr Row<UnpackFn> kRows[] = {
      {"unpack_int4_scalar", Isa::kScalar, unpack_int4_scalar},
      {"unpack_int4_avx2", Isa::kAvx2, unpack_int4_avx2},
      {"unpack_int4_avx512vnni", Isa::kAvx512Vnni, unpack_int4_avx512vnni},
  };
  return kRows;
}

void unpack_int4(const uint8_t* packed, int64_t n, int8_t* y) {
  best_row(unpack_int4_rows()).function(packed, n, y);
}

PackFn pack_int2_scalar, pack_int2_avx2, pack_int2_avx512vnni;

std::span<const Row<PackFn>> pack_int2_rows() {
  static constexpr Row<PackFn> kRows[] = {
      {"pack_int2_scalar", Isa::kScalar, pack_int2_scalar},
      {"pack_int2_avx2", Isa::kAvx2, pack_int2_avx2},
      {"pack_int2_avx512vnni", Isa::kAvx512Vnni, pack_int2_avx512vnni},
  };
  return kRows;
}

void pack_int2(const int8_t* x, int64_t n, uint8_t* packed) {
  best_row(pack_int2_rows()).function(x, n, packed);
}

UnpackFn unpack_int2_scalar, unpack_int2_avx2, unpack_int2_avx512vnni;

std::span<const Row<UnpackFn>> unpack_int2_rows() {
  static constexpr Row<UnpackFn> kRows[] = {
      {"unpack_int2_scalar", Isa::kScalar, unpack_int2_scalar},
      {"unpack_int2_avx2", Isa::kAvx2, unpack_int2_avx2},
      {"unpack_int2_avx512vnni", Isa::kAvx512Vnni, unpack_int2_avx512vnni},
  };
  return kRows;
}

void unpack_int2(const uint8_t* packed, int64_t n, int8_t* y) {
  best_row(unpack_int2_rows()).function(packed, n, y);
}

PackFn pack_int1_scalar;

std::span<const Row<PackFn>> pack_int1_rows() {
  static constexpr Row<PackFn> kRows[] = {{"pack_int1_scalar", Isa::kScalar, pack_int1_scalar}};
  return kRows;
}

void pack_int1(const int8_t* x, int64_t n, uint8_t* packed) {
  best_row(pack_int1_rows()).function(x, n, packed);
}

UnpackFn unpack_int1_scalar;

std::span<const Row<UnpackFn>> unpack_int1_rows() {
  static constexpr Row<UnpackFn> kRows[] = {{"unpack_int1_scalar", Isa::kScalar, unpack_int1_scalar}};
  return kRows;
}

void unpack_int1(const uint8_t* packed, int64_t n, int8_t* y) {
  best_row(unpack_int1_rows()).function(packed, n, y);
}

namespace {

/// Eight codes are kBits bytes. Little-endian, as every machine is that has one of our instruction sets.
template <int kBits>
void pack_groups(const int8_t* x, int64_t n, uint8_t* packed) {
  constexpr uint64_t kMask = (1U << kBits) - 1;
  for (int64_t i = 0; i < n; i += 8, packed += kBits) {
    const int64_t count = n - i < 8 ? n - i : 8;
    uint64_t group = 0;
    for (int64_t k = 0; k < count; ++k) group |= (static_cast<uint64_t>(x[i + k]) & kMask) << (k * kBits);
    std::memcpy(packed, &group, static_cast<size_t>(packed_bytes(count, kBits)));
  }
}

template <int kBits>
void unpack_groups(const uint8_t* packed, int64_t n, int8_t* y) {
  constexpr int kMask = (1 << kBits) - 1;
  constexpr int kSign = 1 << (kBits - 1);
  for (int64_t i = 0; i < n; i += 8, packed += kBits) {
    const int64_t count = n - i < 8 ? n - i : 8;
    uint64_t group = 0;
    std::memcpy(&group, packed, static_cast<size_t>(packed_bytes(count, kBits)));
    for (int64_t k = 0; k < count; ++k) {
      const int code = static_cast<int>(group >> (k * kBits)) & kMask;
      y[i + k] = static_cast<int8_t>((code ^ kSign) - kSign);
    }
  }
}

}  // namespace

void pack_codes(const int8_t* x, int64_t n, int bits, uint8_t* packed) {
  constexpr PackFn* kPack[] = {pack_int1,      pack_int2,      pack_groups<3>, pack_int4,
                               pack_groups<5>, pack_groups<6>, pack_groups<7>};
  kPack[bits - 1](x, n, packed);
}

void unpack_codes(const uint8_t* packed, int64_t n, int bits, int8_t* y) {
  constexpr UnpackFn* kUnpack[] = {unpack_int1,      unpack_int2,      unpack_groups<3>, unpack_int4,
                                   unpack_groups<5>, unpack_groups<6>, unpack_groups<7>};
  kUnpack[bits - 1](packed, n, y);
}

PackSignsFn pack_signs_scalar, pack_signs_avx2, pack_signs_avx512vnni;

std::span<const Row<PackSignsFn>> pack_signs_rows() {
  static constexpr Row<PackSignsFn> kRows[] = {
      {"pack_signs_scalar", Isa::kScalar, pack_signs_scalar},
      {"pack_signs_avx2", Isa::kAvx2, pack_signs_avx2},
      {"pack_signs_avx512vnni", Isa::kAvx512Vnni, pack_signs_avx512vnni},
  };
  return kRows;
}

void pack_signs(const float* x, int64_t n, uint8_t* packed) {
  best_row(pack_signs_rows()).function(x, n, packed);
}

void pack_sign_codes(const uint8_t* x, int64_t n, uint8_t* packed) {
  const auto sign_bits = [](uint64_t codes) {
    const uint64_t low_bits = (codes | codes >> 1) & 0x0101010101010101;
    return static_cast<uint8_t>(low_bits * 0x0102040810204080 >> 56);  // byte i's bit comes to bit 56 + i
  };
  for (int64_t i = 0; i < n; i += 8) {
    uint64_t codes = 0;
    std::memcpy(&codes, x + i, static_cast<size_t>(n - i < 8 ? n - i : 8));
    packed[i / 8] = sign_bits(codes);
  }
  for (int64_t byte = (n + 7) / 8; byte < (n + 31) / 32 * 4; ++byte) packed[byte] = 0;
}

}  // namespace ptqx::kernels
