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

struct FixedPointTerm {
  const void* values;         // [count]
  bool wide;                  // int64, else int32
  const int64_t* offset;      // [count]
  const int64_t* multiplier;  // [count]
};

struct FixedPointArgs {
  std::span<const FixedPointTerm> terms;
  const int64_t* shift;  // [count], 0 to kMostPlaces
  int64_t count;
  int64_t zero_point, low, high;
  int64_t* codes;  // [count]
};

using FixedPointFn = void(const FixedPointArgs& args);
std::span<const Row<FixedPointFn>> fixed_point_rows();

}  // namespace ptqx::kernels
