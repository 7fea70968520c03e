#pragma once

// What the *_amxint8.cpp files share.

#include <immintrin.h>

#include <cstdint>

namespace ptqx::kernels {
namespace {

/// As LDTILECFG reads it: eight registers of 16 rows of 64 bytes.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
// In memory, and all of it: intrinsics of GCC 12 tell the compiler of its first 8 bytes only.
constexpr TileConfig kTileConfig;

}  // namespace
}  // namespace ptqx::kernels
