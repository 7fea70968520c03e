#include "kernels/depthwise.h"

#include "kernels/conv_tail_avx512.h"

namespace ptqx::kernels {
namespace {

constexpr int64_t kQuadBytes = 256;  // four taps of 64 channels

/// Four rows of the input; one that lies on padding is read through an empty mask.
struct Quad {
  Quad(const uint8_t* const* rows, int64_t channels) {
    for (int r = 0; r < 4; ++r) {
      if (rows[r] != nullptr) any = row[r] = rows[r];
      mask[r] = rows[r] != nullptr ? first_lanes64(channels) : 0;
    }
    for (int r = 0; r < 4; ++r) {
      if (mask[r] == 0) row[r] = any;
    }
  }
  const uint8_t* any = nullptr;
  const uint8_t* row[4] = {};
  __mmask64 mask[4];
};

/// Bytes of four rows at one input column become one dword a channel, so that VPDPBUSD multiplies and adds
/// four taps; neighbouring output pixels share the result. Stores NV vectors; only the first Rows may be
/// other than zeros.
template <int NV, int Rows>
void interleave_columns(const Quad& quad, const DepthwiseArgs& args, uint8_t* out) {
  // Interleaving works within 128-bit lanes. Dwords are spread over the lanes first, so that what leaves
  // vector j are channels 16 j to 16 j + 15 in order.
  const __m512i spread = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  int64_t offset = 0;
  for (int64_t column = 0; column < args.columns;
       ++column, offset += args.column_bytes, out += args.quads * kQuadBytes) {
    __m512i row[4] = {};
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r) {
      row[r] = _mm512_permutexvar_epi32(spread, _mm512_maskz_loadu_epi8(quad.mask[r], quad.row[r] + offset));
    }
    const __m512i low01 = _mm512_unpacklo_epi8(row[0], row[1]);
    const __m512i low23 = _mm512_unpacklo_epi8(row[2], row[3]);
    _mm512_store_si512(out, _mm512_unpacklo_epi16(low01, low23));
    if constexpr (NV > 1) _mm512_store_si512(out + 64, _mm512_unpackhi_epi16(low01, low23));
    if constexpr (NV > 2) {
      const __m512i high01 = _mm512_unpackhi_epi8(row[0], row[1]);
      const __m512i high23 = _mm512_unpackhi_epi8(row[2], row[3]);
      _mm512_store_si512(out + 128, _mm512_unpacklo_epi16(high01, high23));
      if constexpr (NV > 3) _mm512_store_si512(out + 192, _mm512_unpackhi_epi16(high01, high23));
    }
  }
}

/// Accumulators to memory.
template <int NV>
struct Store {
  explicit Store(const DepthwiseArgs& args) : acc(args.acc) {}
  [[gnu::always_inline]] void operator()(const __m512i (&x)[1][NV], int64_t pixel) const {
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) _mm512_storeu_si512(acc + pixel * kDepthwiseChannels + 16 * j, x[0][j]);
  }
  int32_t* acc;
};

/// Accumulators to codes.
template <int NV>
struct Codes {
  explicit Codes(const DepthwiseArgs& args) : tail(*args.tail_args) {}
  [[gnu::always_inline]] void operator()(const __m512i (&x)[1][NV], int64_t pixel) const {
    tail.finish(x, pixel);
  }
  SaturatingTail<NV, false> tail;
};

/// The pixels of a segment, whatever the kernel.
template <int NV, class Finish>
void multiply(const DepthwiseArgs& args, const DepthwiseSegment& segment, const uint8_t* x, int64_t pixel,
              const Finish& finish) {
  const int64_t tap_bytes = args.quads * kQuadBytes;
  for (int64_t p = 0; p < segment.pixels; ++p, x += args.stride * tap_bytes) {
    __m512i acc[1][NV];
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) acc[0][j] = _mm512_loadu_si512(segment.init + 16 * j);
    for (int64_t t = segment.tap_begin; t < segment.tap_end; ++t) {
      const uint8_t* column = x + t * args.dilation * tap_bytes;
      const int8_t* w = args.weights + t * tap_bytes;
      for (int64_t q = 0; q < tap_bytes; q += kQuadBytes) {
#pragma GCC unroll 4
        for (int j = 0; j < NV; ++j) {
          acc[0][j] = _mm512_dpbusd_epi32(acc[0][j], _mm512_load_si512(column + q + 64 * j),
                                          _mm512_load_si512(w + q + 64 * j));
        }
      }
    }
    finish(acc, pixel + p);
  }
}

/// The same for three columns of at most four rows, whose weights stay in registers.
template <int NV, class Finish>
void multiply_three(const DepthwiseArgs& args, const DepthwiseSegment& segment, const uint8_t* x,
                    int64_t pixel, const Finish& finish) {
  __m512i init[NV];
  __m512i weights[3][NV];
#pragma GCC unroll 4
  for (int j = 0; j < NV; ++j) {
    init[j] = _mm512_loadu_si512(segment.init + 16 * j);
#pragma GCC unroll 3
    for (int t = 0; t < 3; ++t) weights[t][j] = _mm512_load_si512(args.weights + t * kQuadBytes + 64 * j);
  }
  const int64_t step = args.dilation * kQuadBytes;
  for (int64_t p = 0; p < segment.pixels; ++p, x += args.stride * kQuadBytes) {
    __m512i acc[1][NV];
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) {
      acc[0][j] = _mm512_dpbusd_epi32(init[j], _mm512_load_si512(x + 64 * j), weights[0][j]);
      acc[0][j] = _mm512_dpbusd_epi32(acc[0][j], _mm512_load_si512(x + step + 64 * j), weights[1][j]);
      acc[0][j] = _mm512_dpbusd_epi32(acc[0][j], _mm512_load_si512(x + 2 * step + 64 * j), weights[2][j]);
    }
    finish(acc, pixel + p);
  }
}

template <int NV>
void interleave(const DepthwiseArgs& args) {
  for (int64_t q = 0; q < args.quads; ++q) {
    const Quad quad(args.rows + 4 * q, args.channels);
    if (quad.any == nullptr) {
      for (int64_t c = 0; c < args.columns; ++c) {
        uint8_t* out = args.work + (c * args.quads + q) * kQuadBytes;
        for (int j = 0; j < NV; ++j) _mm512_store_si512(out + 64 * j, _mm512_setzero_si512());
      }
    } else if (quad.mask[3] == 0) {
      interleave_columns<NV, 3>(quad, args, args.work + q * kQuadBytes);
    } else {
      interleave_columns<NV, 4>(quad, args, args.work + q * kQuadBytes);
    }
  }
}

/// Returns how many pixels there are.
template <int NV, class Finish>
int64_t multiply_segments(const DepthwiseArgs& args, const Finish& finish) {
  int64_t pixel = 0;
  for (int64_t s = 0; s < args.segment_count; ++s) {
    const DepthwiseSegment& segment = args.segments[s];
    const uint8_t* x = args.work + (args.first_column + pixel * args.stride) * args.quads * kQuadBytes;
    if (args.quads == 1 && segment.tap_begin == 0 && segment.tap_end == 3) {
      multiply_three<NV>(args, segment, x, pixel, finish);
    } else {
      multiply<NV>(args, segment, x, pixel, finish);
    }
    pixel += segment.pixels;
  }
  return pixel;
}

template <int NV>
void run(const DepthwiseArgs& args) {
  interleave<NV>(args);
  if (args.tail != nullptr && saturation_clamps(*args.tail_args) &&
      args.tail_args->tail->residual == nullptr) {
    multiply_segments<NV>(args, Codes<NV>(args));
    return;
  }
  const int64_t pixels = multiply_segments<NV>(args, Store<NV>(args));
  if (args.tail != nullptr) args.tail(*args.tail_args, args.acc, 0, pixels, kDepthwiseChannels);
}

}  // namespace

void depthwise_u8s8_avx512vnni(const DepthwiseArgs& args) {
  if (args.channels <= 16) return run<1>(args);
  if (args.channels <= 32) return run<2>(args);
  if (args.channels <= 48) return run<3>(args);
  return run<4>(args);
}

}  // namespace ptqx::kernels
