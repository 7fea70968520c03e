#pragma once

// What the 256-bit gemms share: tiles of at most Kernel::kRows pixels x 16 channels, in two registers a
// pixel. Kernel::tile<MR>(args, first, column, out) computes one.

#include "kernels/gemm.h"

namespace ptqx::kernels {
namespace {

/// Calls tile<m> for a run-time m in [1, MR].
template <class Kernel, int MR>
inline void ymm_tile(int64_t m, const GemmArgs& args, int64_t first, int64_t column, int32_t* out) {
  if constexpr (MR > 1) {
    if (m < MR) return ymm_tile<Kernel, MR - 1>(m, args, first, column, out);
  }
  Kernel::template tile<MR>(args, first, column, out);
}

template <class Kernel>
inline void ymm_tiles(const GemmArgs& args) {
  constexpr int kRows = Kernel::kRows;
  alignas(32) int32_t block[kRows * kGemmMaxNr];
  for (int64_t first = 0; first < args.m; first += kRows) {
    const int64_t m = args.m - first < kRows ? args.m - first : kRows;
    int32_t* out = args.acc != nullptr ? args.acc + first * args.nr : block;
    for (int64_t column = 0; column < args.nr; column += 16)
      ymm_tile<Kernel, kRows>(m, args, first, column, out);
    if (out == block && args.acc_rows == nullptr) args.tail(*args.tail_args, block, first, m, args.nr);
  }
}

}  // namespace
}  // namespace ptqx::kernels
