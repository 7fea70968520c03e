#pragma once

// Whole numbers to codes without floats:
//
//   codes[i] = clamp(round(sum of (term[i] + offset[i]) * multiplier[i] / 2^shift[i]) + zero_point, low,
//   high)
//
// rounded half to even. Sums are modulo 2^64.

#include <cstdint>
#include <span>

#include "kernels/dispatch.h"

namespace ptqx::kernels {

enum class Integer : uint8_t { kU8, kS8, kS16, kS32, kS64 };

struct FixedPointTerm {
  const void* values;  // [count] of `type`
  Integer type;
  const int64_t* offset;      // [count]
  const int64_t* multiplier;  // [count]
};

struct FixedPointArgs {
  std::span<const FixedPointTerm> terms;  // at least one
  const int64_t* shift;                   // [count], 0 to kMostPlaces
  int64_t count;
  int64_t zero_point, low, high;
  void* codes;  // [count] of `type`, which low and high are in
  Integer type;
};

using FixedPointFn = void(const FixedPointArgs& args);
std::span<const Row<FixedPointFn>> fixed_point_rows();

/// f(T{}) for the type that stands behind `type`.
template <class F>
inline void with_integer(Integer type, F f) {
  switch (type) {
    case Integer::kU8:
      return f(uint8_t{});
    case Integer::kS8:
      return f(int8_t{});
    case Integer::kS16:
      return f(int16_t{});
    case Integer::kS32:
      return f(int32_t{});
    case Integer::kS64:
      return f(int64_t{});
  }
}

}  // namespace ptqx::kernels
