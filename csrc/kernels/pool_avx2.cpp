#include "kernels/pool.h"
#include "kernels/pool_window.h"
#include "kernels/simd_avx2.h"

namespace ptqx::kernels {
namespace {

/// The largest of rows x columns pixels at `x`, `column_step` and `row_step` bytes apart.
void max_of_window(const uint8_t* x, int64_t c, int64_t rows, int64_t columns, int64_t row_step,
                   int64_t column_step, uint8_t* y) {
  int64_t channel = 0;
  for (; channel + 32 <= c; channel += 32) {
    __m256i largest = _mm256_setzero_si256();
    for (int64_t row = 0; row < rows; ++row) {
      const uint8_t* pixel = x + row * row_step + channel;
      for (int64_t column = 0; column < columns; ++column, pixel += column_step) {
        largest = _mm256_max_epu8(largest, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(pixel)));
      }
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + channel), largest);
  }
  for (; channel < c; channel += 8) {
    const int64_t count = smaller(c - channel, 8);
    __m128i largest = _mm_setzero_si128();
    for (int64_t row = 0; row < rows; ++row) {
      const uint8_t* pixel = x + row * row_step + channel;
      for (int64_t column = 0; column < columns; ++column, pixel += column_step) {
        largest = _mm_max_epu8(largest, load_bytes(pixel, count));
      }
    }
    const int64_t bytes = _mm_cvtsi128_si64(largest);
    __builtin_memcpy(y + channel, &bytes, static_cast<size_t>(count));
  }
}

template <class Windows>
void average(const uint8_t* x, const PoolShape& shape, const AvgPoolArgs& args, const Windows& windows,
             uint8_t* y) {
  const CodeRange range = code_range(_mm256_set1_epi32(args.output_zero_point), args.qmin, args.qmax);
  for (int64_t oy = 0; oy < shape.oh; ++oy) {
    const Window rows = windows.rows(oy);
    for (int64_t ox = 0; ox < shape.ow; ++ox, y += shape.c) {
      const Window columns = windows.columns(ox);
      const __m256 multiplier = _mm256_set1_ps(avg_multiplier(args, rows, columns));
      const auto taps = static_cast<int32_t>((rows.end - rows.begin) * (columns.end - columns.begin));
      const __m256i offset = _mm256_set1_epi32(-taps * args.input_zero_point);
      for_each_8(shape.c, [&](int64_t channel, int64_t count) {
        __m256i sum = offset;
        for (int64_t iy = rows.begin; iy < rows.end; ++iy) {
          const uint8_t* pixel = x + (iy * shape.w + columns.begin) * shape.c + channel;
          for (int64_t ix = columns.begin; ix < columns.end; ++ix, pixel += shape.c) {
            sum = _mm256_add_epi32(sum, load_codes(pixel, count));
          }
        }
        const __m256 t = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), multiplier);
        store_codes(y + channel, count, round_and_clamp(t, range));
      });
    }
  }
}

}  // namespace

void max_pool2d_u8_avx2(const uint8_t* x, const PoolShape& shape, uint8_t* y) {
  const int64_t row = shape.w * shape.c;
  for (int64_t oy = 0; oy < shape.oh; ++oy) {
    const Taps rows = max_taps(oy, shape.h, shape.kernel_h, shape.stride_h, shape.pad_top, shape.dilation_h);
    for (int64_t ox = 0; ox < shape.ow; ++ox, y += shape.c) {
      const Taps columns =
          max_taps(ox, shape.w, shape.kernel_w, shape.stride_w, shape.pad_left, shape.dilation_w);
      const uint8_t* window = x + (rows.start + rows.first * shape.dilation_h) * row +
                              (columns.start + columns.first * shape.dilation_w) * shape.c;
      max_of_window(window, shape.c, rows.last - rows.first, columns.last - columns.first,
                    shape.dilation_h * row, shape.dilation_w * shape.c, y);
    }
  }
}

void avg_pool2d_u8_avx2(const uint8_t* x, const PoolShape& shape, const AvgPoolArgs& args, uint8_t* y) {
  average(x, shape, args, AvgPoolWindows{shape, args}, y);
}

void adaptive_avg_pool2d_u8_avx2(const uint8_t* x, const PoolShape& shape, const AvgPoolArgs& args,
                                 uint8_t* y) {
  average(x, shape, args, AdaptiveWindows{shape}, y);
}

}  // namespace ptqx::kernels
