#include <immintrin.h>

#include <cstring>

#include "kernels/depthwise.h"

namespace ptqx::kernels {
namespace {

constexpr int kVectors = 8;  // of 8 channels

__m256i load_channels(const uint8_t* x, int64_t count) {
  if (count >= 32) return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  alignas(32) uint8_t bytes[32] = {};
  if (count > 0) std::memcpy(bytes, x, static_cast<size_t>(count));
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(bytes));
}

void store(uint8_t* out, __m256i x) { _mm256_store_si256(reinterpret_cast<__m256i*>(out), x); }

/// Bytes of four rows at one input column become one dword a channel; neighbouring output pixels share
/// the result. 32 channels.
void interleave_half(const uint8_t* const* rows, int64_t offset, int64_t channels, uint8_t* out) {
  // Interleaving works within 128-bit lanes. Dwords are spread over the lanes first, so that what leaves
  // vector j are channels 8 j to 8 j + 7 in order.
  const __m256i spread = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
  __m256i row[4];
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {
    row[r] = rows[r] == nullptr
                 ? _mm256_setzero_si256()
                 : _mm256_permutevar8x32_epi32(load_channels(rows[r] + offset, channels), spread);
  }
  const __m256i low01 = _mm256_unpacklo_epi8(row[0], row[1]);
  const __m256i high01 = _mm256_unpackhi_epi8(row[0], row[1]);
  const __m256i low23 = _mm256_unpacklo_epi8(row[2], row[3]);
  const __m256i high23 = _mm256_unpackhi_epi8(row[2], row[3]);
  store(out, _mm256_unpacklo_epi16(low01, low23));
  store(out + 32, _mm256_unpackhi_epi16(low01, low23));
  store(out + 64, _mm256_unpacklo_epi16(high01, high23));
  store(out + 96, _mm256_unpackhi_epi16(high01, high23));
}

/// acc + the dot product of four unsigned and four signed bytes; exact, because words are multiplied.
__m256i dot(__m256i acc, __m256i x, __m256i w) {
  const __m256i even = _mm256_madd_epi16(_mm256_and_si256(x, _mm256_set1_epi16(0xFF)),
                                         _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8));
  const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(x, 8), _mm256_srai_epi16(w, 8));
  return _mm256_add_epi32(acc, _mm256_add_epi32(even, odd));
}

void multiply_pixel(const DepthwiseArgs& args, const DepthwiseSegment& segment, int64_t pixel) {
  __m256i acc[kVectors];
#pragma GCC unroll 8
  for (int j = 0; j < kVectors; ++j)
    acc[j] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(segment.init + 8 * j));
  const int64_t bytes = args.quads * 256;
  const uint8_t* x =
      args.work + (args.first_column + pixel * args.stride + segment.tap_begin * args.dilation) * bytes;
  const int8_t* w = args.weights + segment.tap_begin * bytes;
  for (int64_t t = segment.tap_begin; t < segment.tap_end; ++t, x += args.dilation * bytes, w += bytes) {
    for (int64_t q = 0; q < bytes; q += 256) {
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) {
        acc[j] = dot(acc[j], _mm256_load_si256(reinterpret_cast<const __m256i*>(x + q + 32 * j)),
                     _mm256_load_si256(reinterpret_cast<const __m256i*>(w + q + 32 * j)));
      }
    }
  }
  int32_t* out = args.acc + pixel * kDepthwiseChannels;
#pragma GCC unroll 8
  for (int j = 0; j < kVectors; ++j) _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 8 * j), acc[j]);
}

}  // namespace

void depthwise_u8s8_avx2(const DepthwiseArgs& args) {
  uint8_t* out = args.work;
  for (int64_t column = 0; column < args.columns; ++column) {
    for (int64_t q = 0; q < args.quads; ++q, out += 256) {
      const int64_t offset = column * args.column_bytes;
      interleave_half(args.rows + 4 * q, offset, args.channels, out);
      interleave_half(args.rows + 4 * q, offset + 32, args.channels - 32, out + 128);
    }
  }
  int64_t pixel = 0;
  for (int64_t s = 0; s < args.segment_count; ++s) {
    for (int64_t p = 0; p < args.segments[s].pixels; ++p) multiply_pixel(args, args.segments[s], pixel++);
  }
  if (args.tail != nullptr) args.tail(*args.tail_args, args.acc, 0, pixel, kDepthwiseChannels);
}

}  // namespace ptqx::kernels
