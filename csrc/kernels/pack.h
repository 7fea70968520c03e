#pragma once

// Codes of 1 to 7 bits without gaps, and signs. Codes that do not fit are the caller's to refuse; only their
// low bits are kept.

#include <cstdint>
#include <span>

#include "kernels/dispatch.h"

namespace ptqx::kernels {

/// Code i lies in bits [i * bits, (i + 1) * bits) of the row, the lowest bit of the first byte being bit 0;
/// unused bits of the last byte are 0.
void pack_codes(const int8_t* x, int64_t n, int bits, uint8_t* packed);
void unpack_codes(const uint8_t* packed, int64_t n, int bits, int8_t* y);

/// Of n codes.
constexpr int64_t packed_bytes(int64_t n, int bits) {
  return n / 8 * bits + (n % 8 * bits + 7) / 8;  // n * bits may overflow
}

/// The same for the widths of which whole codes fill a byte; `packed` has packed_bytes(n, bits).
using PackFn = void(const int8_t* x, int64_t n, uint8_t* packed);
using UnpackFn = void(const uint8_t* packed, int64_t n, int8_t* y);

PackFn pack_int4;
UnpackFn unpack_int4;
PackFn pack_int2;
UnpackFn unpack_int2;
PackFn pack_int1;
UnpackFn unpack_int1;

/// Eight signs a byte, the first one lowest: bit 1 where x[i] >= 0 (so not where it is NaN). `packed` has
/// whole dwords, 4 * ceil(n / 32) bytes; unused bits are 0.
using PackSignsFn = void(const float* x, int64_t n, uint8_t* packed);
PackSignsFn pack_signs;

/// The same of codes around the zero point 1: bit 1 where x[i] is 1 or 2, bit 0 where it is 0.
void pack_sign_codes(const uint8_t* x, int64_t n, uint8_t* packed);

std::span<const Row<PackSignsFn>> pack_signs_rows();
std::span<const Row<PackFn>> pack_int4_rows();
std::span<const Row<UnpackFn>> unpack_int4_rows();
std::span<const Row<PackFn>> pack_int2_rows();
std::span<const Row<UnpackFn>> unpack_int2_rows();
std::span<const Row<PackFn>> pack_int1_rows();
std::span<const Row<UnpackFn>> unpack_int1_rows();

}  // namespace ptqx::kernels
