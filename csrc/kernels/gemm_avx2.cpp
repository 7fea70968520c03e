#include <immintrin.h>

#include <cstring>

#include "kernels/gemm_ymm_tiles.h"

namespace ptqx::kernels {
namespace {

// Bytes 0 and 2 of every dword, and bytes 1 and 3, as signed words: vpmaddwd of two such pairs is exact,
// unlike vpmaddubsw, which saturates.
inline __m256i even_words(__m256i weights) { return _mm256_srai_epi16(_mm256_slli_epi16(weights, 8), 8); }
inline __m256i odd_words(__m256i weights) { return _mm256_srai_epi16(weights, 8); }

inline __m256i broadcast_dword(const uint8_t* x) {
  int32_t dword;
  std::memcpy(&dword, x, sizeof dword);
  return _mm256_set1_epi32(dword);
}

struct S8 {
  static constexpr int kRows = 4;

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
    const __m256i low_bytes = _mm256_set1_epi16(0xFF);
    for (int64_t r = 0; r < args.run_count; ++r) {
      const GemmRun run = args.runs[r];
      const int8_t* w = args.panel + (run.weight * args.nr + column) * 4;
      const int64_t end = run.input + 4 * run.dwords;
      for (int64_t k = run.input; k < end; k += 4, w += args.nr * 4) {
        const __m256i w0 = _mm256_load_si256(reinterpret_cast<const __m256i*>(w));
        const __m256i w1 = _mm256_load_si256(reinterpret_cast<const __m256i*>(w + 32));
        const __m256i even0 = even_words(w0);
        const __m256i odd0 = odd_words(w0);
        const __m256i even1 = even_words(w1);
        const __m256i odd1 = odd_words(w1);
#pragma GCC unroll 8
        for (int i = 0; i < MR; ++i) {
          const __m256i x = broadcast_dword(pixels[i] + k);
          const __m256i even = _mm256_and_si256(x, low_bytes);
          const __m256i odd = _mm256_srli_epi16(x, 8);
          acc[i][0] = _mm256_add_epi32(acc[i][0], _mm256_madd_epi16(even, even0));
          acc[i][1] = _mm256_add_epi32(acc[i][1], _mm256_madd_epi16(even, even1));
          acc[i][0] = _mm256_add_epi32(acc[i][0], _mm256_madd_epi16(odd, odd0));
          acc[i][1] = _mm256_add_epi32(acc[i][1], _mm256_madd_epi16(odd, odd1));
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
};

}  // namespace

void gemm_u8s8_avx2(const GemmArgs& args) { ymm_tiles<S8>(args); }

}  // namespace ptqx::kernels
