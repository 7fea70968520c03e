#pragma once

// fixed_point.h on vectors of `Bytes` bytes, which compilers know: all instruction sets have these
// operations.

#include <cstring>

#include "kernels/fixed_point.h"

namespace ptqx::kernels {
namespace {

template <class Number, int Bytes>
using VectorOf [[gnu::vector_size(Bytes)]] = Number;

template <class Vector>
inline Vector load(const int64_t* from) {
  Vector vector;
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

template <class Number, bool First>
inline void add_products(const FixedPointTerm& term, int64_t count, int64_t* __restrict sums) {
  const auto* values = static_cast<const Number*>(term.values);
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t value = static_cast<uint64_t>(int64_t{values[i]}) + static_cast<uint64_t>(term.offset[i]);
    const uint64_t product = value * static_cast<uint64_t>(term.multiplier[i]);
    sums[i] = static_cast<int64_t>(First ? product : static_cast<uint64_t>(sums[i]) + product);
  }
}

template <bool First>
inline void add_term(const FixedPointTerm& term, int64_t count, int64_t* sums) {
  if (term.wide) return add_products<int64_t, First>(term, count, sums);
  add_products<int32_t, First>(term, count, sums);
}

/// Sums to codes, those of one vector. AVX2 shifts only unsigned numbers of 64 bits.
template <int Bytes>
inline void round_vector(const FixedPointArgs& args, const int64_t* shift, int64_t* codes) {
  using Unsigned = VectorOf<uint64_t, Bytes>;
  using Signed = VectorOf<int64_t, Bytes>;
  constexpr uint64_t kTop = uint64_t{1} << 63;
  const auto sum = load<Unsigned>(codes), places = load<Unsigned>(shift);
  const Unsigned floor = ((sum ^ kTop) >> places) - ((Unsigned{} + kTop) >> places);
  const Unsigned unit = (Unsigned{} + 1) << places;
  const Unsigned twice = 2 * (sum & (unit - 1));
  const Unsigned up = (unit - twice - (floor & 1)) >> 63;  // all three are below 2^63
  const Signed rounded = reinterpret_cast<Signed>(floor + up);
  const Signed low = Signed{} + (args.low - args.zero_point), high = Signed{} + (args.high - args.zero_point);
  const Signed at_least = rounded < low ? low : rounded;
  const Signed code = (at_least > high ? high : at_least) + args.zero_point;
  std::memcpy(codes, &code, sizeof code);
}

template <int Bytes>
inline void round_sums(const FixedPointArgs& args) {
  constexpr int64_t kLanes = Bytes / 8;
  int64_t i = 0;
  for (; i + kLanes <= args.count; i += kLanes) round_vector<Bytes>(args, args.shift + i, args.codes + i);
  if (i == args.count) return;
  int64_t shift[kLanes] = {}, codes[kLanes] = {};
  const auto rest = static_cast<size_t>(args.count - i) * sizeof(int64_t);
  std::memcpy(shift, args.shift + i, rest);
  std::memcpy(codes, args.codes + i, rest);
  round_vector<Bytes>(args, shift, codes);
  std::memcpy(args.codes + i, codes, rest);
}

template <int Bytes>
inline void fixed_point(const FixedPointArgs& args) {
  add_term<true>(args.terms[0], args.count, args.codes);
  for (const FixedPointTerm& term : args.terms.subspan(1)) add_term<false>(term, args.count, args.codes);
  round_sums<Bytes>(args);
}

}  // namespace
}  // namespace ptqx::kernels
