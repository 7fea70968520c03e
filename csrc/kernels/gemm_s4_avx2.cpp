// vpmaddubsw adds two products into a signed word. With codes of 4 bits a sum is at most 2 * 255 * 8, so
// that eight of them fit into the word: half the work of codes of 8 bits, which need two exact vpmaddwd.
// Of 16 registers, 8 hold words; the int32 accumulators are met once in eight dwords.

#include <immintrin.h>

#include <cstring>

#include "kernels/gemm_ymm_tiles.h"

namespace ptqx::kernels {
namespace {

constexpr int64_t kMostSums = 8;  // 8 * 2 * 255 * 8 < 2^15

inline __m256i broadcast_dword(const uint8_t* x) {
  int32_t dword;
  std::memcpy(&dword, x, sizeof dword);
  return _mm256_set1_epi32(dword);
}

/// The codes of dword 0 or 1 of a pair of dwords.
inline __m256i codes_of(const int8_t* w, int index) {
  const __m256i pair = _mm256_load_si256(reinterpret_cast<const __m256i*>(w));
  const __m256i nibbles =
      _mm256_and_si256(index == 0 ? pair : _mm256_srli_epi16(pair, 4), _mm256_set1_epi8(0x0F));
  const __m256i signed_codes =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1));
  return _mm256_shuffle_epi8(signed_codes, nibbles);
}

struct S4 {
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
    const __m256i ones = _mm256_set1_epi16(1);
    for (int64_t r = 0; r < args.run_count; ++r) {
      const GemmRun run = args.runs[r];
      const int8_t* w = args.panel + (run.weight / 2 * args.nr + column) * 4;
      const int64_t end = run.input + 4 * run.dwords;
      for (int64_t k = run.input; k < end;) {
        __m256i words[MR][2];
#pragma GCC unroll 4
        for (int i = 0; i < MR; ++i) words[i][0] = words[i][1] = _mm256_setzero_si256();
        const int64_t block_end = end - k < 4 * kMostSums ? end : k + 4 * kMostSums;
        for (; k < block_end; w += args.nr * 4) {
#pragma GCC unroll 2
          for (int d = 0; d < 2; ++d, k += 4) {
            const __m256i w0 = codes_of(w, d);
            const __m256i w1 = codes_of(w + 32, d);
#pragma GCC unroll 4
            for (int i = 0; i < MR; ++i) {
              const __m256i x = broadcast_dword(pixels[i] + k);
              words[i][0] = _mm256_add_epi16(words[i][0], _mm256_maddubs_epi16(x, w0));
              words[i][1] = _mm256_add_epi16(words[i][1], _mm256_maddubs_epi16(x, w1));
            }
          }
        }
#pragma GCC unroll 4
        for (int i = 0; i < MR; ++i) {
          acc[i][0] = _mm256_add_epi32(acc[i][0], _mm256_madd_epi16(words[i][0], ones));
          acc[i][1] = _mm256_add_epi32(acc[i][1], _mm256_madd_epi16(words[i][1], ones));
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

void gemm_u8s4_avx2(const GemmArgs& args) { ymm_tiles<S4>(args); }

}  // namespace ptqx::kernels
