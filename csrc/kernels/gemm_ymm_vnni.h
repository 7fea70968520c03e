#pragma once

// The 256-bit VPDPBUSD kernel. AVX-VNNI and AVX-512 VNNI encode the same operation differently, so the
// instruction comes in as `Dot`; the including file must be compiled with flags for it.

#include <immintrin.h>

#include <cstring>

#include "kernels/gemm.h"

namespace ptqx::kernels {
namespace {

template <class Dot>
struct GemmYmmVnni {
  static constexpr int kRows = 6;

  /// MR pixels x 16 channels from channel `column` of the panel on.
  template <int MR>
  static void tile(const GemmArgs& args, int64_t first, int64_t column, int32_t* out) {
    __m256i acc[MR][2];
    const uint8_t* pixels[MR];
#pragma GCC unroll 8
    for (int i = 0; i < MR; ++i) {
      const int32_t* start = (args.acc_rows != nullptr ? args.acc_rows[first + i] : args.init) + column;
      acc[i][0] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(start));
      acc[i][1] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(start + 8));
      pixels[i] = args.pixels[first + i];
    }
    for (int64_t r = 0; r < args.run_count; ++r) {
      const GemmRun run = args.runs[r];
      const int8_t* w = args.panel + run.weight + column * 4;
      const int64_t end = run.input + 4 * run.dwords;
      for (int64_t k = run.input; k < end; k += 4, w += args.nr * 4) {
        const __m256i w0 = _mm256_load_si256(reinterpret_cast<const __m256i*>(w));
        const __m256i w1 = _mm256_load_si256(reinterpret_cast<const __m256i*>(w + 32));
#pragma GCC unroll 8
        for (int i = 0; i < MR; ++i) {
          int32_t dword;
          std::memcpy(&dword, pixels[i] + k, sizeof dword);
          const __m256i x = _mm256_set1_epi32(dword);
          acc[i][0] = Dot::dot(acc[i][0], x, w0);
          acc[i][1] = Dot::dot(acc[i][1], x, w1);
        }
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < MR; ++i) {
      int32_t* row = (args.acc_rows != nullptr ? args.acc_rows[first + i] : out + i * args.nr) + column;
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(row), acc[i][0]);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(row + 8), acc[i][1]);
    }
  }

  template <int MR>
  static void tile_of(int64_t m, const GemmArgs& args, int64_t first, int64_t column, int32_t* out) {
    if constexpr (MR > 1) {
      if (m < MR) return tile_of<MR - 1>(m, args, first, column, out);
    }
    tile<MR>(args, first, column, out);
  }

  static void run(const GemmArgs& args) {
    alignas(32) int32_t block[kRows * kGemmMaxNr];
    for (int64_t first = 0; first < args.m; first += kRows) {
      const int64_t m = args.m - first < kRows ? args.m - first : kRows;
      int32_t* out = args.acc != nullptr ? args.acc + first * args.nr : block;
      for (int64_t column = 0; column < args.nr; column += 16) tile_of<kRows>(m, args, first, column, out);
      if (out == block && args.acc_rows == nullptr) args.tail(*args.tail_args, block, first, m, args.nr);
    }
  }
};

}  // namespace
}  // namespace ptqx::kernels
