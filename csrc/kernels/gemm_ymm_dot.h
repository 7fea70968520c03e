#pragma once

// The 256-bit kernels that multiply a dword and add its products in one step, the including file's `Dot`:
// AVX-VNNI and AVX-512 VNNI encode the same instruction differently, and for words AVX2 has two that do the
// same. The file must be compiled with flags for it. Of 16 registers, 12 are accumulators.

#include <immintrin.h>

#include <cstring>

#include "kernels/gemm_ymm_tiles.h"

namespace ptqx::kernels {
namespace {

struct YmmS8 {
  static constexpr int kPerByte = 1;
  static __m256i dword(const int8_t* w, int /*index*/) {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(w));
  }
  static __m256i sum(__m256i acc) { return acc; }
};

/// Codes enter as 16 * code, which is a nibble on its way out of the byte; so do sums.
struct YmmS4 {
  static constexpr int kPerByte = 2;
  static __m256i dword(const int8_t* w, int index) {
    const __m256i pair = _mm256_load_si256(reinterpret_cast<const __m256i*>(w));
    return _mm256_and_si256(index == 0 ? _mm256_slli_epi16(pair, 4) : pair, _mm256_set1_epi8(-16));
  }
  static __m256i sum(__m256i acc) { return _mm256_srai_epi32(acc, 4); }
};

template <class Dot, class Codes>
struct GemmYmmDot {
  static constexpr int kRows = 6;

  /// MR pixels x 16 channels from channel `column` of the panel on.
  template <int MR>
  static void tile(const GemmArgs& args, int64_t first, int64_t column, int32_t* out) {
    __m256i acc[MR][2];
    const uint8_t* pixels[MR];
#pragma GCC unroll 8
    for (int i = 0; i < MR; ++i) {
      acc[i][0] = acc[i][1] = _mm256_setzero_si256();
      pixels[i] = args.pixels[first + i];
    }
    for (int64_t r = 0; r < args.run_count; ++r) {
      const GemmRun run = args.runs[r];
      const int8_t* w = args.panel + (run.weight / Codes::kPerByte * args.nr + column) * 4;
      const int64_t end = run.input + 4 * run.dwords;
      for (int64_t k = run.input; k < end; w += args.nr * 4) {
#pragma GCC unroll 2
        for (int d = 0; d < Codes::kPerByte; ++d, k += 4) {
          const __m256i w0 = Codes::dword(w, d);
          const __m256i w1 = Codes::dword(w + 32, d);
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
    }
#pragma GCC unroll 8
    for (int i = 0; i < MR; ++i) {
      const int32_t* start = (args.acc_rows != nullptr ? args.acc_rows[first + i] : args.init) + column;
      int32_t* row = (args.acc_rows != nullptr ? args.acc_rows[first + i] : out + i * args.nr) + column;
#pragma GCC unroll 2
      for (int j = 0; j < 2; ++j) {
        const __m256i before = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(start + 8 * j));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(row + 8 * j),
                            _mm256_add_epi32(before, Codes::sum(acc[i][j])));
      }
    }
  }
};

}  // namespace
}  // namespace ptqx::kernels
