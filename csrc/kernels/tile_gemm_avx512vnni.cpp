#include "kernels/simd_avx512.h"
#include "kernels/tile_gemm.h"

namespace ptqx::kernels {

void gather_avx512vnni(const GatherArgs& args) {
  uint8_t* row = args.output;
  for (int64_t i = 0; i < args.m; ++i, row += args.row_bytes) {
    for (int64_t p = 0; p < args.piece_count; ++p) {
      const GatherPiece& piece = args.pieces[p];
      const uint8_t* from = piece.padding ? args.padding : args.pixels[i] + piece.input;
      uint8_t* to = row + piece.output;
      int64_t left = piece.bytes;
      for (; left >= kTileBytes; left -= kTileBytes, from += kTileBytes, to += kTileBytes) {
        _mm512_storeu_si512(to, _mm512_loadu_si512(from));
      }
      if (left == 0 && piece.bytes > 0) continue;
      _mm512_storeu_si512(to, _mm512_maskz_loadu_epi8(first_lanes64(left), from));
    }
  }
}

void unpack_panel_s4_avx512vnni(const int8_t* packed, int64_t rows, int64_t nr, int8_t* output) {
  const __m512i nibble = _mm512_set1_epi8(0xF);
  const __m512i code =
      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1));
  const int64_t width = nr * 4;
  for (int64_t row = 0; row < rows; ++row, packed += width, output += 2 * width) {
    for (int64_t i = 0; i < width; i += 64) {
      const __m512i pair = _mm512_loadu_si512(packed + i);
      const __m512i low = _mm512_and_si512(pair, nibble);
      const __m512i high = _mm512_and_si512(_mm512_srli_epi16(pair, 4), nibble);
      _mm512_storeu_si512(output + i, _mm512_shuffle_epi8(code, low));
      _mm512_storeu_si512(output + width + i, _mm512_shuffle_epi8(code, high));
    }
  }
}

}  // namespace ptqx::kernels
