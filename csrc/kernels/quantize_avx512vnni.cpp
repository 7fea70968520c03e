#include "kernels/quantize.h"
#include "kernels/simd_avx512.h"

namespace ptqx::kernels {
namespace {

template <class Code>
void quantize_blocks(const float* x, const Blocks& blocks, const float* scale, const int32_t* zero_point,
                     int32_t qmin, int32_t qmax, Code* y) {
  for_each_16(blocks, scale, zero_point, [&](int64_t i, __mmask16 lanes, __m512 divisor, __m512i zero) {
    const __m512 t = _mm512_div_ps(_mm512_maskz_loadu_ps(lanes, x + i), divisor);
    store_codes(y + i, lanes, round_and_clamp(t, code_range(zero, qmin, qmax)));
  });
}

template <class Code>
void dequantize_blocks(const Code* x, const Blocks& blocks, const float* scale, const int32_t* zero_point,
                       float* y) {
  for_each_16(blocks, scale, zero_point, [&](int64_t i, __mmask16 lanes, __m512 factor, __m512i zero) {
    const __m512 steps = _mm512_cvtepi32_ps(_mm512_sub_epi32(load_codes(x + i, lanes), zero));
    _mm512_mask_storeu_ps(y + i, lanes, _mm512_mul_ps(steps, factor));
  });
}

/// float32(codes - zero_points), the difference exact in float64.
__m256 difference_s32(__m256i codes, __m256i zero_points) {
  return _mm512_cvtpd_ps(_mm512_sub_pd(_mm512_cvtepi32_pd(codes), _mm512_cvtepi32_pd(zero_points)));
}

/// Lanes 0 to 15 hold one pixel each, its c <= 4 channels in the bytes of the lane; the first
/// pixels * c bytes of y are written.
void store_pixels(__m512i codes, int64_t c, int64_t pixels, uint8_t* y) {
  __m512i bytes = codes;
  if (c == 1) {
    bytes = _mm512_castsi128_si512(_mm512_cvtepi32_epi8(codes));
  } else if (c == 2) {
    bytes = _mm512_castsi256_si512(_mm512_cvtepi32_epi16(codes));
  } else if (c == 3) {
    const __m128i three_of_four = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
    const __m512i quarters = _mm512_setr_epi32(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 3, 7, 11, 15);
    bytes = _mm512_shuffle_epi8(codes, _mm512_broadcast_i32x4(three_of_four));
    bytes = _mm512_permutexvar_epi32(quarters, bytes);
  }
  _mm512_mask_storeu_epi8(y, first_lanes64(pixels * c), bytes);
}

/// The same with pixels c > 4 bytes apart.
void scatter_pixels(__m512i codes, int64_t c, int64_t pixels, uint8_t* y) {
  alignas(64) uint32_t words[16];
  _mm512_store_si512(words, codes);
  for (int64_t pixel = 0; pixel < pixels; ++pixel) __builtin_memcpy(y + pixel * c, words + pixel, 4);
}

}  // namespace

void quantize_u8_avx512vnni(const float* x, Blocks blocks, const float* scale, const int32_t* zero_point,
                            int32_t qmin, int32_t qmax, uint8_t* y) {
  quantize_blocks(x, blocks, scale, zero_point, qmin, qmax, y);
}

void quantize_s8_avx512vnni(const float* x, Blocks blocks, const float* scale, const int32_t* zero_point,
                            int32_t qmin, int32_t qmax, int8_t* y) {
  quantize_blocks(x, blocks, scale, zero_point, qmin, qmax, y);
}

void dequantize_u8_avx512vnni(const uint8_t* x, Blocks blocks, const float* scale, const int32_t* zero_point,
                              float* y) {
  dequantize_blocks(x, blocks, scale, zero_point, y);
}

void dequantize_s8_avx512vnni(const int8_t* x, Blocks blocks, const float* scale, const int32_t* zero_point,
                              float* y) {
  dequantize_blocks(x, blocks, scale, zero_point, y);
}

void dequantize_s32_avx512vnni(const int32_t* x, Blocks blocks, const float* scale, const int32_t* zero_point,
                               float* y) {
  for_each_16(blocks, scale, zero_point, [&](int64_t i, __mmask16 lanes, __m512 factor, __m512i zero) {
    const __m512i codes = _mm512_maskz_loadu_epi32(lanes, x + i);
    const __m256 low = difference_s32(_mm512_castsi512_si256(codes), _mm512_castsi512_si256(zero));
    const __m256 high =
        difference_s32(_mm512_extracti32x8_epi32(codes, 1), _mm512_extracti32x8_epi32(zero, 1));
    const __m512 steps = _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
    _mm512_mask_storeu_ps(y + i, lanes, _mm512_mul_ps(steps, factor));
  });
}

void quantize_u8_nchw_to_nhwc_avx512vnni(const float* x, int64_t c, int64_t plane, int64_t pixels,
                                         float scale, int32_t zero_point, int32_t qmin, int32_t qmax,
                                         uint8_t* y) {
  const __m512 divisor = _mm512_set1_ps(scale);
  const CodeRange range = code_range(_mm512_set1_epi32(zero_point), qmin, qmax);
  const int64_t group = c < 4 ? c : 4;
  for_each_16(pixels, [&](int64_t pixel, __mmask16 lanes) {
    const int64_t count = pixels - pixel < 16 ? pixels - pixel : 16;
    // Four channels at a time; the last four overlap the ones before if c is no multiple of 4.
    for (int64_t done = 0; done < c; done += group) {
      const int64_t first = done + group > c ? c - group : done;
      __m512i codes = _mm512_setzero_si512();
      for (int64_t k = group - 1; k >= 0; --k) {
        const float* channel = x + (first + k) * plane + pixel;
        const __m512 t = _mm512_div_ps(_mm512_maskz_loadu_ps(lanes, channel), divisor);
        codes = _mm512_or_si512(_mm512_slli_epi32(codes, 8), round_and_clamp(t, range));
      }
      if (c <= 4) {
        store_pixels(codes, c, count, y + pixel * c);
      } else {
        scatter_pixels(codes, c, count, y + pixel * c + first);
      }
    }
  });
}

}  // namespace ptqx::kernels
