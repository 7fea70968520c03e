#include "kernels/quantize.h"
#include "kernels/simd_avx2.h"

namespace ptqx::kernels {
namespace {

template <class Code>
void quantize_blocks(const float* x, const Blocks& blocks, const float* scale, const int32_t* zero_point,
                     int32_t qmin, int32_t qmax, Code* y) {
  for_each_8(blocks, scale, zero_point, [&](int64_t i, int64_t count, __m256 divisor, __m256i zero) {
    const __m256 t = _mm256_div_ps(load_f32(x + i, count), divisor);
    store_codes(y + i, count, round_and_clamp(t, code_range(zero, qmin, qmax)));
  });
}

template <class Code>
void dequantize_blocks(const Code* x, const Blocks& blocks, const float* scale, const int32_t* zero_point,
                       float* y) {
  for_each_8(blocks, scale, zero_point, [&](int64_t i, int64_t count, __m256 factor, __m256i zero) {
    const __m256 steps = _mm256_cvtepi32_ps(_mm256_sub_epi32(load_codes(x + i, count), zero));
    store_f32(y + i, count, _mm256_mul_ps(steps, factor));
  });
}

/// float32(codes - zero_points), the difference exact in float64.
__m128 difference_s32(__m128i codes, __m128i zero_points) {
  return _mm256_cvtpd_ps(_mm256_sub_pd(_mm256_cvtepi32_pd(codes), _mm256_cvtepi32_pd(zero_points)));
}

/// Lanes 0 to 7 hold one pixel each, its c <= 4 channels in the bytes of the lane; the first
/// pixels * c bytes of y are written.
void store_pixels(__m256i codes, int64_t c, int64_t pixels, uint8_t* y) {
  alignas(32) uint8_t bytes[32];
  __m256i packed = codes;
  if (c == 1) {
    packed = _mm256_castsi128_si256(low_bytes(codes));
  } else if (c == 2) {
    packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(codes, codes), 0b1000);
  } else if (c == 3) {
    const __m128i three_of_four = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
    const __m256i quarters = _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7);
    packed = _mm256_shuffle_epi8(codes, _mm256_broadcastsi128_si256(three_of_four));
    packed = _mm256_permutevar8x32_epi32(packed, quarters);
  }
  if (c == 4 && pixels == 8) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), packed);
    return;
  }
  if (c == 3 && pixels == 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y), _mm256_castsi256_si128(packed));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(y + 16), _mm256_extracti128_si256(packed, 1));
    return;
  }
  _mm256_store_si256(reinterpret_cast<__m256i*>(bytes), packed);
  __builtin_memcpy(y, bytes, static_cast<size_t>(pixels * c));
}

/// The same with pixels c > 4 bytes apart.
void scatter_pixels(__m256i codes, int64_t c, int64_t pixels, uint8_t* y) {
  alignas(32) uint32_t words[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(words), codes);
  for (int64_t pixel = 0; pixel < pixels; ++pixel) __builtin_memcpy(y + pixel * c, words + pixel, 4);
}

}  // namespace

void quantize_u8_avx2(const float* x, Blocks blocks, const float* scale, const int32_t* zero_point,
                      int32_t qmin, int32_t qmax, uint8_t* y) {
  quantize_blocks(x, blocks, scale, zero_point, qmin, qmax, y);
}

void quantize_s8_avx2(const float* x, Blocks blocks, const float* scale, const int32_t* zero_point,
                      int32_t qmin, int32_t qmax, int8_t* y) {
  quantize_blocks(x, blocks, scale, zero_point, qmin, qmax, y);
}

void dequantize_u8_avx2(const uint8_t* x, Blocks blocks, const float* scale, const int32_t* zero_point,
                        float* y) {
  dequantize_blocks(x, blocks, scale, zero_point, y);
}

void dequantize_s8_avx2(const int8_t* x, Blocks blocks, const float* scale, const int32_t* zero_point,
                        float* y) {
  dequantize_blocks(x, blocks, scale, zero_point, y);
}

void dequantize_s32_avx2(const int32_t* x, Blocks blocks, const float* scale, const int32_t* zero_point,
                         float* y) {
  for_each_8(blocks, scale, zero_point, [&](int64_t i, int64_t count, __m256 factor, __m256i zero) {
    const __m256i codes = load_codes(x + i, count);
    const __m128 low = difference_s32(_mm256_castsi256_si128(codes), _mm256_castsi256_si128(zero));
    const __m128 high = difference_s32(_mm256_extracti128_si256(codes, 1), _mm256_extracti128_si256(zero, 1));
    store_f32(y + i, count, _mm256_mul_ps(_mm256_set_m128(high, low), factor));
  });
}

void quantize_u8_nchw_to_nhwc_avx2(const float* x, int64_t c, int64_t plane, int64_t pixels, float scale,
                                   int32_t zero_point, int32_t qmin, int32_t qmax, uint8_t* y) {
  const __m256 divisor = _mm256_set1_ps(scale);
  const CodeRange range = code_range(_mm256_set1_epi32(zero_point), qmin, qmax);
  const int64_t group = smaller(c, 4);
  for_each_8(pixels, [&](int64_t pixel, int64_t count) {
    // Four channels at a time; the last four overlap the ones before if c is no multiple of 4.
    for (int64_t done = 0; done < c; done += group) {
      const int64_t first = smaller(done, c - group);
      __m256i codes = _mm256_setzero_si256();
      for (int64_t k = group - 1; k >= 0; --k) {
        const __m256 t = _mm256_div_ps(load_f32(x + (first + k) * plane + pixel, count), divisor);
        codes = _mm256_or_si256(_mm256_slli_epi32(codes, 8), round_and_clamp(t, range));
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
