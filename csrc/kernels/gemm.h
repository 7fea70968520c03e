#pragma once

// u8 x s8 -> s32: a list of pixels times one panel of packed weights. It is the inner loop of every
// dense convolution and linear layer. A pixel is a base pointer; what is multiplied with the panel lies
// at offsets that all pixels of a call share, so no indirection buffer and no padding is needed.

#include <span>

#include "kernels/conv_tail.h"
#include "kernels/dispatch.h"

namespace ptqx::kernels {

/// Input bytes at base + input, 4 * dwords of them, meet the panel's bytes from `weight` on.
struct GemmRun {
  int64_t input;
  int64_t weight;
  int64_t dwords;
};

/// acc[i][j] = start + sum over runs, over d < dwords and b < 4, modulo 2^32, of
///     pixels[i][input + 4 d + b] * panel[weight + (d * nr + j) * 4 + b]
/// where start is init[j]; or, if acc_rows is given, acc_rows[i][j], which is also where the sum goes.
struct GemmArgs {
  const uint8_t* const* pixels;  // [m] base pointers
  int64_t m;
  const GemmRun* runs;
  int64_t run_count;
  const int8_t* panel;       // [dwords of the layer][nr][4]
  int64_t nr;                // a multiple of 16, at most kGemmMaxNr
  const int32_t* init;       // [nr]
  int32_t* acc;              // [m][nr], or null: the accumulators are finished by `tail`
  int32_t* const* acc_rows;  // [m], each [nr]; null for init, acc and tail
  ConvTailFn* tail;
  const ConvTailArgs* tail_args;
};

constexpr int64_t kGemmMaxNr = 64;

using GemmFn = void(const GemmArgs& args);

GemmFn gemm_u8s8_scalar;
GemmFn gemm_u8s8_avx2;
GemmFn gemm_u8s8_avxvnni;
GemmFn gemm_u8s8_avx512vnni;

std::span<const Row<GemmFn>> gemm_u8s8_rows();

/// The panel width that suits `isa` and this many output channels.
int64_t gemm_panel_width(Isa isa, int64_t out_channels);

}  // namespace ptqx::kernels
