#pragma once

// fixed_point.h on vectors of `Bytes` bytes, which compilers know: all instruction sets have these
// operations.

#include <cstring>

#include "kernels/fixed_point.h"
#include "kernels/vector_of.h"
#ifdef __AVX512F__
#include "kernels/simd_avx512.h"
#else
#include "kernels/simd_avx2.h"
#endif

namespace ptqx::kernels {
namespace {

template <class Vector>
inline Vector load(const void* from) {
  Vector vector;
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

/// round(sum / 2^places), half to even. AVX2 shifts only unsigned numbers of 64 bits.
template <int Bytes>
inline VectorOf<int64_t, Bytes> shift_half_to_even(VectorOf<uint64_t, Bytes> sum,
                                                   VectorOf<uint64_t, Bytes> places) {
  using Unsigned = VectorOf<uint64_t, Bytes>;
  constexpr uint64_t kTop = uint64_t{1} << 63;
  const Unsigned floor = ((sum ^ kTop) >> places) - ((Unsigned{} + kTop) >> places);
  const Unsigned unit = (Unsigned{} + 1) << places;
  const Unsigned twice = 2 * (sum & (unit - 1));
  const Unsigned up = (unit - twice - (floor & 1)) >> 63;  // all three are below 2^63
  return reinterpret_cast<VectorOf<int64_t, Bytes>>(floor + up);
}

/// The same of |sum| <= 2^62, for places that many sums share.
template <int Bytes>
class HalfToEvenShift {
 public:
  using Signed = VectorOf<int64_t, Bytes>;
  using Unsigned = VectorOf<uint64_t, Bytes>;

  explicit HalfToEvenShift(Unsigned places)
      : places_(places),
        one_(places > 0 ? Unsigned{} + 1 : Unsigned{}),
        below_half_(((Unsigned{} + 1) << places >> 1) - one_),
        top_((Unsigned{} + kTop) >> places) {}

  Signed operator()(Signed sum) const {
    const auto bits = reinterpret_cast<Unsigned>(sum);
    const Unsigned odd = bits >> places_ & one_;
    const Unsigned biased = bits + below_half_ + odd;
    if constexpr (Bytes == 64) {
      return reinterpret_cast<Signed>(biased) >> reinterpret_cast<Signed>(places_);
    } else {  // AVX2 shifts only unsigned numbers of 64 bits
      return reinterpret_cast<Signed>(((biased ^ kTop) >> places_) - top_);
    }
  }

 private:
  static constexpr uint64_t kTop = uint64_t{1} << 63;
  const Unsigned places_, one_, below_half_, top_;
};

/// Products of numbers that fit 32 bits.
template <int Bytes>
inline VectorOf<int64_t, Bytes> product_s32(VectorOf<int64_t, Bytes> a, VectorOf<int64_t, Bytes> b) {
  using Signed = VectorOf<int64_t, Bytes>;
  if constexpr (Bytes == 64) {
    return reinterpret_cast<Signed>(
        _mm512_mul_epi32(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
  } else {
    return reinterpret_cast<Signed>(
        _mm256_mul_epi32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
  }
}

/// A number for each byte; GCC 12 would convert the vector byte by byte.
template <int Bytes>
inline VectorOf<int64_t, Bytes> load_bytes(const uint8_t* from) {
  using Signed = VectorOf<int64_t, Bytes>;
  if constexpr (Bytes == 64) {
    return reinterpret_cast<Signed>(
        _mm512_cvtepu8_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
  } else {
    return reinterpret_cast<Signed>(_mm256_cvtepu8_epi64(_mm_cvtsi32_si128(load<int32_t>(from))));
  }
}

/// clamp(numbers + zero_point, low, high)
template <int Bytes>
inline VectorOf<int64_t, Bytes> clamp_codes(VectorOf<int64_t, Bytes> numbers, int64_t zero_point, int64_t low,
                                            int64_t high) {
  using Signed = VectorOf<int64_t, Bytes>;
  const Signed least = Signed{} + (low - zero_point), most = Signed{} + (high - zero_point);
  const Signed at_least = numbers < least ? least : numbers;
  return (at_least > most ? most : at_least) + zero_point;
}

constexpr int64_t kFixedPointBlock = 256;  // numbers whose sums stay in the first cache

template <bool First>
inline void add_term(const FixedPointTerm& term, int64_t first, int64_t count, int64_t* sums) {
  with_integer(term.type, [&]<class T>(T) {
    const T* values = static_cast<const T*>(term.values) + first;
    const int64_t* offset = term.offset + first;
    const int64_t* multiplier = term.multiplier + first;
    for (int64_t i = 0; i < count; ++i) {
      const uint64_t value = static_cast<uint64_t>(int64_t{values[i]}) + static_cast<uint64_t>(offset[i]);
      const uint64_t product = value * static_cast<uint64_t>(multiplier[i]);
      sums[i] = static_cast<int64_t>(First ? product : static_cast<uint64_t>(sums[i]) + product);
    }
  });
}

/// Sums to codes, a block in its place; what follows the last one up to a whole vector is of no account.
template <int Bytes>
inline void round_sums(const FixedPointArgs& args, const int64_t* shift, int64_t count, int64_t* sums) {
  using Unsigned = VectorOf<uint64_t, Bytes>;
  constexpr int64_t kLanes = Bytes / 8;
  for (int64_t i = 0; i < count; i += kLanes) {
    const int64_t rest = count - i;
    Unsigned places{};
    if (rest < kLanes) {
      std::memcpy(&places, shift + i, static_cast<size_t>(rest) * sizeof(int64_t));
    } else {
      places = load<Unsigned>(shift + i);
    }
    const auto rounded = shift_half_to_even<Bytes>(load<Unsigned>(sums + i), places);
    const auto codes = clamp_codes<Bytes>(rounded, args.zero_point, args.low, args.high);
    std::memcpy(sums + i, &codes, sizeof codes);
  }
}

template <int Bytes>
inline void fixed_point(const FixedPointArgs& args) {
  alignas(64) int64_t sums[kFixedPointBlock] = {};
  for (int64_t first = 0; first < args.count; first += kFixedPointBlock) {
    const int64_t count = args.count - first < kFixedPointBlock ? args.count - first : kFixedPointBlock;
    add_term<true>(args.terms[0], first, count, sums);
    for (const FixedPointTerm& term : args.terms.subspan(1)) add_term<false>(term, first, count, sums);
    round_sums<Bytes>(args, args.shift + first, count, sums);
    with_integer(args.type, [&]<class T>(T) {
      T* codes = static_cast<T*>(args.codes) + first;
      for (int64_t i = 0; i < count; ++i) codes[i] = static_cast<T>(sums[i]);
    });
  }
}

}  // namespace
}  // namespace ptqx::kernels
