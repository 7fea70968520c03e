#pragma once

// The transforms of winograd.h along one axis, on vectors; `Simd` says how wide they are:
//   Words, Ints       vectors of int16 and of int32, with +, - and shifted<n>(x) = x << n
//   load_words        two channels of every dword of codes
//   code_words        two codes of every dword of a panel, for 2 and 4 bits a shift
//   store
// A map of 6 x 6 does not fit into registers; between the two axes it rests on the stack.

#include "kernels/winograd.h"

namespace ptqx::kernels {
namespace {

constexpr int kInverseOf9 = 954437177;  // modulo 2^32
constexpr int64_t kPrefetchDwords = 8;

template <class Words>
[[gnu::always_inline]] inline void input_line(const Words (&d)[6], Words (&v)[6]) {
  const Words a = d[4] - d[2];
  const Words b = shifted<1>(d[3] - d[1]);
  const Words c = shifted<2>(d[2]) - d[4];
  const Words e = shifted<2>(d[1]) - d[3];
  v[0] = shifted<2>(d[0] - d[2]) + a;
  v[1] = c + e;
  v[2] = c - e;
  v[3] = a + b;
  v[4] = a - b;
  v[5] = d[5] - d[3] - shifted<1>(b);
}

template <class Words>
[[gnu::always_inline]] inline void weight_line(const Words (&g)[3], Words (&u)[6]) {
  const Words outer = g[0] + g[2];
  const Words far = g[0] + shifted<2>(g[2]);
  const Words middle = shifted<1>(g[1]);
  u[0] = shifted<1>(g[0]) + shifted<2>(g[0]);
  u[1] = shifted<2>(outer + g[1]);
  u[2] = shifted<2>(outer - g[1]);
  u[3] = far + middle;
  u[4] = far - middle;
  u[5] = shifted<1>(g[2]) + shifted<2>(g[2]);
}

template <class Ints>
[[gnu::always_inline]] inline void output_line(const Ints (&m)[6], Ints (&y)[4]) {
  const Ints p = m[1] + m[2];
  const Ints q = m[1] - m[2];
  const Ints r = m[3] + m[4];
  const Ints s = shifted<1>(m[3] - m[4]);
  y[0] = m[0] + p + r;
  y[1] = q + s;
  y[2] = p + shifted<2>(r);
  y[3] = q + shifted<2>(s + m[5]);
}

/// V of the channels of one vector of codes.
template <class Simd, int Half>
[[gnu::always_inline]] inline void input_block(const WinogradInputArgs& args, int64_t channel,
                                               int64_t channels) {
  using Words = typename Simd::Words;
  Words columns[6][6];  // [column][row]
  const uint8_t* codes = args.codes + channel;
#pragma GCC unroll 6
  for (int x = 0; x < 6; ++x) {
    Words d[6];
#pragma GCC unroll 6
    for (int y = 0; y < 6; ++y) {
      d[y] = Simd::template load_words<Half>(codes + y * args.row_step + x * args.pixel_step, channels);
    }
    input_line(d, columns[x]);
  }
  int16_t* output = args.output + Half * args.channels / 2 + channel / 2;
#pragma GCC unroll 6
  for (int y = 0; y < 6; ++y) {
    Words line[6], v[6];
#pragma GCC unroll 6
    for (int x = 0; x < 6; ++x) line[x] = columns[x][y];
    input_line(line, v);
#pragma GCC unroll 6
    for (int x = 0; x < 6; ++x) Simd::store(output + (6 * y + x) * args.position_step, v[x], channels);
  }
}

template <class Simd>
inline void winograd_input(const WinogradInputArgs& args) {
  for (int64_t channel = 0; channel < args.channels; channel += Simd::kCodes) {
    const int64_t left = args.channels - channel;
    const int64_t channels = left < Simd::kCodes ? left : Simd::kCodes;
    input_block<Simd, 0>(args, channel, channels);
    input_block<Simd, 1>(args, channel, channels);
  }
}

/// Bytes of the panel from a tap to the next, and from a row of taps to the next.
struct TapSteps {
  explicit TapSteps(const WinogradWeightArgs& args)
      : column(args.dwords / args.codes_per_byte * args.nr * 4),
        row(args.row_dwords / args.codes_per_byte * args.nr * 4) {}

  int64_t offset(int64_t y, int64_t x) const { return y * row + x * column; }

  int64_t column, row;
};

/// U of one dword of codes of as many output channels as a vector has dwords.
template <class Simd, int Left, int Right>
[[gnu::always_inline]] inline void weight_block(const WinogradWeightArgs& args, TapSteps steps,
                                                const int8_t* codes, int16_t* output) {
  using Words = typename Simd::Words;
  Words columns[3][6];
#pragma GCC unroll 3
  for (int x = 0; x < 3; ++x) {
    Words g[3];
#pragma GCC unroll 3
    for (int y = 0; y < 3; ++y) g[y] = Simd::template code_words<Left, Right>(codes + steps.offset(y, x));
    weight_line(g, columns[x]);
  }
#pragma GCC unroll 6
  for (int y = 0; y < 6; ++y) {
    const Words line[3] = {columns[0][y], columns[1][y], columns[2][y]};
    Words u[6];
    weight_line(line, u);
#pragma GCC unroll 6
    for (int x = 0; x < 6; ++x) Simd::store(output + (6 * y + x) * args.position_step, u[x]);
  }
}

template <class Simd>
inline void winograd_weight(const WinogradWeightArgs& args) {
  const int64_t half = args.dwords * args.columns * 2;
  const TapSteps steps(args);
  for (int64_t dword = 0; dword < args.dwords; ++dword) {
    const int8_t* row = args.panel + (dword / args.codes_per_byte * args.nr + args.column) * 4;
    for (int64_t j = 0; j < args.columns; j += Simd::kDwords) {
      const int8_t* codes = row + 4 * j;
      // A line of every tap, too far apart for the processor to see what comes next.
      for (int64_t tap = 0; tap < 9; ++tap)
        __builtin_prefetch(codes + steps.offset(tap / 3, tap % 3) + kPrefetchDwords * args.nr * 4);
      int16_t* output = args.output + (dword * args.columns + j) * 2;
      if (args.codes_per_byte == 1) {
        weight_block<Simd, 8, 8>(args, steps, codes, output);
        weight_block<Simd, 0, 8>(args, steps, codes, output + half);
      } else if (dword % 2 == 0) {
        weight_block<Simd, 12, 12>(args, steps, codes, output);
        weight_block<Simd, 4, 12>(args, steps, codes, output + half);
      } else {
        weight_block<Simd, 8, 12>(args, steps, codes, output);
        weight_block<Simd, 0, 12>(args, steps, codes, output + half);
      }
    }
  }
}

/// The 4 x 4 sums of as many output channels as a vector has dwords.
template <class Simd>
inline void winograd_output(const WinogradOutputArgs& args) {
  using Ints = typename Simd::Ints;
  for (int64_t j = 0; j < args.columns; j += Simd::kDwords) {
    Ints columns[6][4];  // [column][row]
#pragma GCC unroll 6
    for (int x = 0; x < 6; ++x) {
      Ints m[6];
#pragma GCC unroll 6
      for (int y = 0; y < 6; ++y) m[y] = Simd::load(args.products + (6 * y + x) * args.position_step + j);
      output_line(m, columns[x]);
    }
    const Ints init = Simd::load(args.init + j);
#pragma GCC unroll 4
    for (int y = 0; y < 4; ++y) {
      Ints line[6], sums[4];
#pragma GCC unroll 6
      for (int x = 0; x < 6; ++x) line[x] = columns[x][y];
      output_line(line, sums);
#pragma GCC unroll 4
      for (int x = 0; x < 4; ++x) {
        Simd::store(args.output + (4 * y + x) * args.columns + j, Simd::divided(sums[x]) + init);
      }
    }
  }
}

}  // namespace
}  // namespace ptqx::kernels
