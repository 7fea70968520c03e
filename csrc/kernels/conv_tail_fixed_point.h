#pragma once

// The tail without floats, on vectors of `Bytes` bytes: an accumulator of 32 bits times a multiplier of 32
// bits has room in 64.

#include "kernels/conv_tail.h"
#include "kernels/fixed_point_vectors.h"

namespace ptqx::kernels {
namespace {

/// The first `count` numbers, and zeros.
template <int Bytes>
inline VectorOf<int64_t, Bytes> load_wide(const int32_t* from, int64_t count) {
  VectorOf<int32_t, Bytes / 2> numbers{};
  std::memcpy(&numbers, from, static_cast<size_t>(count) * sizeof(int32_t));
  return __builtin_convertvector(numbers, VectorOf<int64_t, Bytes>);
}

/// A vector of channels from column j on, which is not `Full` at the end of them.
template <int Bytes, bool Full>
inline void fixed_point_columns(const ConvTailArgs& args, const int32_t* acc, int64_t first, int64_t m,
                                int64_t nr, int64_t j) {
  using Signed = VectorOf<int64_t, Bytes>;
  // Copies: stores of codes may alias anything that is read through a pointer.
  const Tail tail = *args.tail;
  const int64_t channel = args.channel + j;
  const int64_t* const places = args.places + first;
  uint8_t* const output = static_cast<uint8_t*>(args.output) + channel;
  const int64_t count = Full ? Bytes / 8 : args.channels - j;
  const Signed multiplier = load_wide<Bytes>(tail.fixed_multiplier + channel, count);
  const HalfToEvenShift<Bytes> shifted(
      reinterpret_cast<VectorOf<uint64_t, Bytes>>(load_wide<Bytes>(tail.shift + channel, count)));
  for (int64_t i = 0; i < m; ++i) {
    const auto a = load<VectorOf<int32_t, Bytes / 2>>(acc + i * nr + j);
    const Signed product = product_s32<Bytes>(__builtin_convertvector(a, Signed), multiplier);
    const auto codes = __builtin_convertvector(
        clamp_codes<Bytes>(shifted(product), tail.output_zero_point, tail.qmin, tail.qmax),
        VectorOf<uint8_t, Bytes / 8>);
    std::memcpy(output + places[i], &codes, static_cast<size_t>(count));
  }
}

template <int Bytes>
inline void fixed_point_tail(const ConvTailArgs& args, const int32_t* acc, int64_t first, int64_t m,
                             int64_t nr) {
  constexpr int kLanes = Bytes / 8;
  int64_t j = 0;
  for (; j + kLanes <= args.channels; j += kLanes) {
    fixed_point_columns<Bytes, true>(args, acc, first, m, nr, j);
  }
  if (j < args.channels) fixed_point_columns<Bytes, false>(args, acc, first, m, nr, j);
}

}  // namespace
}  // namespace ptqx::kernels
