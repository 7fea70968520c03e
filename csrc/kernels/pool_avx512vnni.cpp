#include "kernels/pool.h"
#include "kernels/pool_window.h"
#include "kernels/simd_avx512.h"

namespace ptqx::kernels {
namespace {

/// The largest of a 2x2 window at `x` whose rows are `row` bytes apart.
void max_of_four(const uint8_t* x, int64_t c, int64_t row, uint8_t* y) {
  for (int64_t channel = 0; channel < c; channel += 64) {
    const __mmask64 lanes = first_lanes64(c - channel);
    const uint8_t* top = x + channel;
    const uint8_t* bottom = top + row;
    const __m512i upper =
        _mm512_max_epu8(_mm512_maskz_loadu_epi8(lanes, top), _mm512_maskz_loadu_epi8(lanes, top + c));
    const __m512i lower =
        _mm512_max_epu8(_mm512_maskz_loadu_epi8(lanes, bottom), _mm512_maskz_loadu_epi8(lanes, bottom + c));
    _mm512_mask_storeu_epi8(y + channel, lanes, _mm512_max_epu8(upper, lower));
  }
}

/// The largest of rows x columns pixels at `x`, `column_step` and `row_step` bytes apart.
void max_of_window(const uint8_t* x, int64_t c, int64_t rows, int64_t columns, int64_t row_step,
                   int64_t column_step, uint8_t* y) {
  for (int64_t channel = 0; channel < c; channel += 64) {
    const __mmask64 lanes = first_lanes64(c - channel);
    __m512i largest = _mm512_setzero_si512();
    for (int64_t row = 0; row < rows; ++row) {
      const uint8_t* pixel = x + row * row_step + channel;
      for (int64_t column = 0; column < columns; ++column, pixel += column_step) {
        largest = _mm512_max_epu8(largest, _mm512_maskz_loadu_epi8(lanes, pixel));
      }
    }
    _mm512_mask_storeu_epi8(y + channel, lanes, largest);
  }
}

template <class Windows>
void average(const uint8_t* x, const PoolShape& shape, const AvgPoolArgs& args, const Windows& windows,
             uint8_t* y) {
  const CodeRange range = code_range(_mm512_set1_epi32(args.output_zero_point), args.qmin, args.qmax);
  for (int64_t oy = 0; oy < shape.oh; ++oy) {
    const Window rows = windows.rows(oy);
    for (int64_t ox = 0; ox < shape.ow; ++ox, y += shape.c) {
      const Window columns = windows.columns(ox);
      const __m512 multiplier = _mm512_set1_ps(avg_multiplier(args, rows, columns));
      const auto taps = static_cast<int32_t>((rows.end - rows.begin) * (columns.end - columns.begin));
      const __m512i offset = _mm512_set1_epi32(-taps * args.input_zero_point);
      for_each_16(shape.c, [&](int64_t channel, __mmask16 lanes) {
        __m512i sum = offset;
        for (int64_t iy = rows.begin; iy < rows.end; ++iy) {
          const uint8_t* pixel = x + (iy * shape.w + columns.begin) * shape.c + channel;
          for (int64_t ix = columns.begin; ix < columns.end; ++ix, pixel += shape.c) {
            sum = _mm512_add_epi32(sum, load_codes(pixel, lanes));
          }
        }
        const __m512 t = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), multiplier);
        store_codes(y + channel, lanes, round_and_clamp(t, range));
      });
    }
  }
}

}  // namespace

void max_pool2d_u8_avx512vnni(const uint8_t* x, const PoolShape& shape, uint8_t* y) {
  const int64_t row = shape.w * shape.c;
  const int64_t row_step = shape.dilation_h * row;
  const int64_t column_step = shape.dilation_w * shape.c;
  for (int64_t oy = 0; oy < shape.oh; ++oy) {
    const Taps rows = max_taps(oy, shape.h, shape.kernel_h, shape.stride_h, shape.pad_top, shape.dilation_h);
    for (int64_t ox = 0; ox < shape.ow; ++ox, y += shape.c) {
      const Taps columns =
          max_taps(ox, shape.w, shape.kernel_w, shape.stride_w, shape.pad_left, shape.dilation_w);
      const uint8_t* window = x + (rows.start + rows.first * shape.dilation_h) * row +
                              (columns.start + columns.first * shape.dilation_w) * shape.c;
      const int64_t height = rows.last - rows.first;
      const int64_t width = columns.last - columns.first;
      if (height == 2 && width == 2 && shape.dilation_w == 1) {
        max_of_four(window, shape.c, row_step, y);
      } else {
        max_of_window(window, shape.c, height, width, row_step, column_step, y);
      }
    }
  }
}

void avg_pool2d_u8_avx512vnni(const uint8_t* x, const PoolShape& shape, const AvgPoolArgs& args, uint8_t* y) {
  average(x, shape, args, AvgPoolWindows{shape, args}, y);
}

void adaptive_avg_pool2d_u8_avx512vnni(const uint8_t* x, const PoolShape& shape, const AvgPoolArgs& args,
                                       uint8_t* y) {
  average(x, shape, args, AdaptiveWindows{shape}, y);
}

}  // namespace ptqx::kernels
