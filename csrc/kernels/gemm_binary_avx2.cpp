// Ones are counted by looking up nibbles. A byte counts at most 8 a dword, so that the counts of 31 dwords
// fit before they are added to the int32 accumulators. Of 16 registers, 8 hold counts.

#include <immintrin.h>

#include <cstring>

#include "kernels/gemm_ymm_tiles.h"

namespace ptqx::kernels {
namespace {

constexpr int64_t kMostCounts = 31;  // 31 * 8 < 2^8

inline __m256i broadcast_dword(const uint8_t* x) {
  int32_t dword;
  std::memcpy(&dword, x, sizeof dword);
  return _mm256_set1_epi32(dword);
}

/// Each byte: how many bits differ.
inline __m256i count_ones(__m256i differ) {
  const __m256i nibble = _mm256_set1_epi8(0x0F);
  const __m256i ones_of =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
  const __m256i low = _mm256_and_si256(differ, nibble);
  const __m256i high = _mm256_and_si256(_mm256_srli_epi16(differ, 4), nibble);
  return _mm256_add_epi8(_mm256_shuffle_epi8(ones_of, low), _mm256_shuffle_epi8(ones_of, high));
}

/// acc - 2 * the sums of the four counts of each dword.
inline __m256i subtract_counts(__m256i acc, __m256i counts) {
  const __m256i pairs = _mm256_maddubs_epi16(counts, _mm256_set1_epi8(1));
  return _mm256_sub_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(2)));
}

struct Binary {
  static constexpr int kRows = 4;

  /// MR pixels x 16 channels from channel `column` of the panel on.
  template <int MR>
  static void tile(const GemmArgs& args, int64_t first, int64_t column, int32_t* out) {
    __m256i acc[MR][2];
    const uint8_t* pixels[MR];
#pragma GCC unroll 4
    for (int i = 0; i < MR; ++i) {
      const int32_t* start = (args.acc_rows != nullptr ? args.acc_rows[first + i] : args.init) + column;
      acc[i][0] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(start));
      acc[i][1] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(start + 8));
      pixels[i] = args.pixels[first + i];
    }
    for (int64_t r = 0; r < args.run_count; ++r) {
      const GemmRun run = args.runs[r];
      const int8_t* w = args.panel + (run.weight * args.nr + column) * 4;
      const int64_t end = run.input + 4 * run.dwords;
      for (int64_t k = run.input; k < end;) {
        __m256i counts[MR][2];
#pragma GCC unroll 4
        for (int i = 0; i < MR; ++i) counts[i][0] = counts[i][1] = _mm256_setzero_si256();
        const int64_t block_end = end - k < 4 * kMostCounts ? end : k + 4 * kMostCounts;
        for (; k < block_end; k += 4, w += args.nr * 4) {
          const __m256i w0 = _mm256_load_si256(reinterpret_cast<const __m256i*>(w));
          const __m256i w1 = _mm256_load_si256(reinterpret_cast<const __m256i*>(w + 32));
#pragma GCC unroll 4
          for (int i = 0; i < MR; ++i) {
            const __m256i x = broadcast_dword(pixels[i] + k);
            counts[i][0] = _mm256_add_epi8(counts[i][0], count_ones(_mm256_xor_si256(x, w0)));
            counts[i][1] = _mm256_add_epi8(counts[i][1], count_ones(_mm256_xor_si256(x, w1)));
          }
        }
#pragma GCC unroll 4
        for (int i = 0; i < MR; ++i) {
          acc[i][0] = subtract_counts(acc[i][0], counts[i][0]);
          acc[i][1] = subtract_counts(acc[i][1], counts[i][1]);
        }
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < MR; ++i) {
      int32_t* row = (args.acc_rows != nullptr ? args.acc_rows[first + i] : out + i * args.nr) + column;
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(row), acc[i][0]);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(row + 8), acc[i][1]);
    }
  }
};

}  // namespace

void gemm_binary_avx2(const GemmArgs& args) { ymm_tiles<Binary>(args); }

}  // namespace ptqx::kernels
