#pragma once

// Codes of 4, 2 and 1 bits, several a byte, and signs. Codes outside -8..7, -2..1 and -1..0 are the
// caller's to refuse; only their low bits are kept.

#include <cstdint>
#include <span>

#include "kernels/dispatch.h"

namespace ptqx::kernels {

/// x has n codes and `packed` ceil(n / codes per byte) bytes.
using PackFn = void(const int8_t* x, int64_t n, uint8_t* packed);
using UnpackFn = void(const uint8_t* packed, int64_t n, int8_t* y);

/// Two codes a byte, the element with the even index in the low nibble; an odd n leaves the last
/// high nibble 0.
PackFn pack_int4;
UnpackFn unpack_int4;

/// Four codes a byte, lowest index in the lowest bits; unused bits of the last byte are 0.
PackFn pack_int2;
UnpackFn unpack_int2;

/// Eight codes a byte, -1 as bit 1, the first one lowest; unused bits of the last byte are 0.
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
