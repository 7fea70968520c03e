#pragma once

// u8 x s8 -> s32, u8 x s4 -> s32, signs x signs -> s32: a list of pixels times one panel of packed weights.
// They are the inner loop of every dense convolution and linear layer. A pixel is a base pointer; what is
// multiplied with the panel lies at offsets that all pixels of a call share, so no indirection buffer and no
// padding is needed.
//
// A dword is four input codes. Panels, one line a row of memory, nr columns of 4 bytes:
//   s8   dword 0          s4   dword 0 in the low nibbles, dword 1 in the high ones
//        dword 1               dword 2                     dword 3

#include <span>

#include "kernels/conv_tail.h"
#include "kernels/dispatch.h"

namespace ptqx::kernels {

/// Input bytes at base + input, 4 * dwords of them, meet the panel's dwords from `weight` on. For s4 `weight`
/// and `dwords` are even.
struct GemmRun {
  int64_t input;
  int64_t weight;
  int64_t dwords;
};

/// acc[i][j] = start + sum over runs, over d < dwords and b < 4, modulo 2^32, of
///     pixels[i][input + 4 d + b] * panel[weight + d][j][b]
/// where start is init[j]; or, if acc_rows is given, acc_rows[i][j], which is also where the sum goes.
/// For s4 the runs have at most kGemmS4Dwords dwords together.
struct GemmArgs {
  const uint8_t* const* pixels;  // [m] base pointers
  int64_t m;
  const GemmRun* runs;
  int64_t run_count;
  const int8_t* panel;       // s8: [dwords][nr][4]; s4: [dwords / 2][nr][4], two codes a byte
  int64_t nr;                // a multiple of 16, at most kGemmMaxNr
  const int32_t* init;       // [nr]
  int32_t* acc;              // [m][nr], or null: the accumulators are finished by `tail`
  int32_t* const* acc_rows;  // [m], each [nr]; null for init, acc and tail
  ConvTailFn* tail;
  const ConvTailArgs* tail_args;
  /// The one run's weights come from beyond the second-level cache and what follows them in memory is next:
  /// kernels may fetch that while they multiply.
  bool streamed = false;
};

constexpr int64_t kGemmMaxNr = 64;

/// Kernels may sum 16 * code * input before they divide by 16: 2^14 * 4 * 16 * 8 * 255 < 2^31.
constexpr int64_t kGemmS4Dwords = int64_t{1} << 14;

using GemmFn = void(const GemmArgs& args);

GemmFn gemm_u8s8_scalar;
GemmFn gemm_u8s8_avx2;
GemmFn gemm_u8s8_avxvnni;
GemmFn gemm_u8s8_avx512vnni;

GemmFn gemm_u8s4_scalar;
GemmFn gemm_u8s4_avx2;
GemmFn gemm_u8s4_avxvnni;
GemmFn gemm_u8s4_avx512vnni;

constexpr int64_t kGroupsColumns = 16;
/// The same of groups of as many input as output channels, 4 or 8 of each: of the panel's 16 columns, the
/// first 4 or 8 are of the group that begins at `input`, the next ones of the next group. A run is one tap,
/// of 1 or 2 dwords; 16 bytes are read.
GemmFn gemm_u8s8_groups_scalar;
GemmFn gemm_u8s8_groups_avx512vnni;

/// The same of signs, +1 where a bit is 1 and -1 where it is 0, without the number of signs: a product of
/// bytes is -2 * popcount(input ^ weight), and panels are those of s8. With n signs a pixel and `start` = n,
/// acc is the dot product; bits that are 0 in both add nothing.
GemmFn gemm_binary_scalar;
GemmFn gemm_binary_avx2;
GemmFn gemm_binary_avx512vnni;
GemmFn gemm_binary_avx512vpopcntdq;

/// The same of int16: a dword is two of the input and meets two of the panel, whose layout is that of s8. For
/// the transformed operands of kernels/winograd.h.
GemmFn gemm_s16s16_scalar;
GemmFn gemm_s16s16_avx2;
GemmFn gemm_s16s16_avxvnni;
GemmFn gemm_s16s16_avx512vnni;

std::span<const Row<GemmFn>> gemm_u8s8_rows();
std::span<const Row<GemmFn>> gemm_u8s8_groups_rows();
std::span<const Row<GemmFn>> gemm_u8s4_rows();
std::span<const Row<GemmFn>> gemm_binary_rows();
std::span<const Row<GemmFn>> gemm_s16s16_rows();

/// The panel width that suits `isa` and this many output channels.
int64_t gemm_panel_width(Isa isa, int64_t out_channels);

}  // namespace ptqx::kernels
