#pragma once

// Winograd's F(4x4, 3x3) in integers, exact: 36 products instead of 144 for 4 x 4 outputs of a 3 x 3 kernel
// with stride 1 (Lavin and Gray 2016, arXiv:1509.09308, with the points 0, 1, -1, 2, -2 and infinity).
//
//   V = B d B^T                  d: 6 x 6 input codes       |V| <= 100 * 255 < 2^15
//   U = G g G^T                  g: 3 x 3 weights           |U| <= 144 * 128 < 2^15
//   Y = A^T (sum of U * V) A     576 times the 4 x 4 sums of products
//
//       4  0 -5  0  1  0         6  0  0
//       0  4  4 -1 -1  0         4  4  4            1  1  1  1  1  0
//   B = 0 -4  4  1 -1  0     G = 4 -4  4     A^T =  0  1 -1  2 -2  0
//       0 -2 -1  2  1  0         1  2  4            0  1  1  4  4  0
//       0  2 -1 -2  1  0         1 -2  4            0  1 -1  8 -8  4
//       0  4  0 -5  0  1         0  0  6
//
// G is the usual one times 24, or 6 in its last row, so that all of it is whole numbers. U and V are int16,
// and their products are summed in int32 modulo 2^32, in which 9 has an inverse: Y / 9 is 64 times the sums
// modulo 2^32, and a shift gives the sums themselves if they lie in [-2^25, 2^25).
//
// Where four channels are a dword of codes, int16 values lie in two halves: channels 0 and 2 of every dword
// in the first, 1 and 3 in the second. A "position" is one of the 36, row by row.

#include "kernels/dispatch.h"

namespace ptqx::kernels {

constexpr int64_t kWinogradTile = 4;   // outputs along an axis
constexpr int64_t kWinogradPatch = 6;  // inputs along an axis
constexpr int64_t kWinogradPositions = kWinogradPatch * kWinogradPatch;
constexpr int64_t kWinogradSumBits = 25;   // sums of products are in [-2^25, 2^25)
constexpr int64_t kWinogradChannels = 16;  // input channels come in multiples of it

/// V of one patch: output[position * position_step + half * channels / 2 + pair].
struct WinogradInputArgs {
  const uint8_t* codes;  // channel 0 of the upper left pixel
  int64_t row_step;      // bytes from a row to the next
  int64_t pixel_step;    // and from a pixel
  int64_t channels;      // a multiple of kWinogradChannels
  int16_t* output;
  int64_t position_step;  // in int16
};

/// U of `columns` output channels of a panel of nine taps (kernels/gemm.h), as panels that gemm_s16s16 takes:
/// output[position * position_step] on is [2][dwords][columns][2].
struct WinogradWeightArgs {
  const int8_t* panel;  // [3][row_dwords / codes_per_byte][nr][4]: rows of [3][dwords] and filling
  int64_t dwords, row_dwords, nr;
  int64_t codes_per_byte;   // 2: of 4 bits, as of gemm_u8s4
  int64_t column, columns;  // multiples of 16
  int16_t* output;          // on a cache line
  int64_t position_step;    // in int16, a multiple of 32
};

/// output[pixel][j] = the sum of products of pixel `pixel` of the tile, + init[j].
struct WinogradOutputArgs {
  const int32_t* products;  // [columns] of position p at p * position_step
  int64_t position_step;    // in int32
  int64_t columns;          // a multiple of 16
  const int32_t* init;      // [columns]
  int32_t* output;          // [16][columns]
};

using WinogradInputFn = void(const WinogradInputArgs& args);
using WinogradWeightFn = void(const WinogradWeightArgs& args);
using WinogradOutputFn = void(const WinogradOutputArgs& args);

WinogradInputFn winograd_input_scalar;
WinogradInputFn winograd_input_avx2;
WinogradInputFn winograd_input_avx512vnni;

WinogradWeightFn winograd_weight_scalar;
WinogradWeightFn winograd_weight_avx2;
WinogradWeightFn winograd_weight_avx512vnni;

WinogradOutputFn winograd_output_scalar;
WinogradOutputFn winograd_output_avx2;
WinogradOutputFn winograd_output_avx512vnni;

std::span<const Row<WinogradInputFn>> winograd_input_rows();
std::span<const Row<WinogradWeightFn>> winograd_weight_rows();
std::span<const Row<WinogradOutputFn>> winograd_output_rows();

}  // namespace ptqx::kernels
