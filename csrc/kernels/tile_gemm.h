#pragma once

// u8 x s8 -> s32 for matrix units (AMX): pixels in tiles of sixteen that lie at equal distances, times whole
// panels, sixteen dwords of both at a time. What does not come so, lies about or ends on padding, is
// gathered first.
//
// A tile of pixels       a step of a panel, 16 of its nr columns
//   pixel  0: 64 bytes     dword  0: 16 x 4 bytes
//   ...                    ...
//   pixel 15: 64 bytes     dword 15: 16 x 4 bytes

#include <span>

#include "kernels/conv_tail.h"
#include "kernels/dispatch.h"
#include "kernels/gemm.h"

namespace ptqx::kernels {

constexpr int64_t kTilePixels = 16;
constexpr int64_t kTileBytes = 64;  // of a pixel
constexpr int64_t kTileDwords = kTileBytes / 4;
constexpr int64_t kTileColumns = 32;

/// kTileBytes bytes at pixel + input meet the panel's dwords [weight, weight + kTileDwords).
struct TileStep {
  int64_t input;
  int64_t weight;
};

/// Sixteen pixels at equal distances, of which the first `count` are wanted. All are read.
struct PixelTile {
  const uint8_t* codes;
  int64_t count;
};

/// Columns of a panel.
struct TileColumns {
  const int8_t* weights;  // [dwords] of [columns][4], weight_step bytes from one to the next
  const int32_t* init;    // [columns]
  const ConvTailArgs* tail_args;
};

/// acc[i][j] = init[j] + sum over steps and b < 64 of
///     pixel(i)[input + b] * weights[weight + b / 4][j][b % 4]
/// finished by `tail`, for all the columns. Pixels are those wanted of one tile after the other; in a tile,
/// pixel p is at codes + p * pixel_step.
struct TileGemmArgs {
  const PixelTile* tiles;
  int64_t tile_count;
  int64_t pixel_step;  // bytes
  const TileStep* steps;
  int64_t step_count;
  const TileColumns* blocks;
  int64_t block_count;
  int64_t columns;  // of a block: kTileColumns, half of it, or for a single tile twice
  int64_t weight_step;
  ConvTailFn* tail;
};

using TileGemmFn = void(const TileGemmArgs& args);
TileGemmFn tile_gemm_u8s8_scalar;
TileGemmFn tile_gemm_u8s8_amxint8;
std::span<const Row<TileGemmFn>> tile_gemm_u8s8_rows();

/// Whole kTileBytes are written from output + `output` on, at least once: `bytes` of the pixel's from `input`
/// on, or of the padding, and then zeros. Pieces are written in order, one over the zeros of another.
struct GatherPiece {
  int64_t input;
  int64_t output;
  int64_t bytes;
  bool padding = false;  // the source is GatherArgs::padding, whatever the pixel
};

struct GatherArgs {
  const uint8_t* const* pixels;  // [m]
  int64_t m;
  const GatherPiece* pieces;
  int64_t piece_count;
  const uint8_t* padding;
  int64_t row_bytes;
  uint8_t* output;  // [m][row_bytes], and kTileBytes more that may be written
};

using GatherFn = void(const GatherArgs& args);
GatherFn gather_scalar;
GatherFn gather_avx512vnni;
std::span<const Row<GatherFn>> gather_rows();

/// Rows of a panel of gemm_u8s4 become two of gemm_u8s8's each: [rows][nr][4] to [rows][2][nr][4].
using UnpackPanelFn = void(const int8_t* packed, int64_t rows, int64_t nr, int8_t* output);
UnpackPanelFn unpack_panel_s4_scalar;
UnpackPanelFn unpack_panel_s4_avx512vnni;
std::span<const Row<UnpackPanelFn>> unpack_panel_s4_rows();

}  // namespace ptqx::kernels
