#pragma once

// real_function.h on vectors of `Bytes` bytes, which compilers know.

#include <algorithm>
#include <cstring>

#include "kernels/real_function_formulas.h"
#include "kernels/vector_of.h"

namespace ptqx::kernels {
namespace {

template <int Bytes>
void real_function_vectors(RealFunction function, double number, const float* x, int64_t count, float* y) {
  using Real = VectorOf<double, Bytes>;
  using Bits = VectorOf<uint64_t, Bytes>;
  using Floats = VectorOf<float, Bytes / 2>;
  constexpr int64_t kLanes = Bytes / sizeof(double);
  for (int64_t i = 0; i < count; i += kLanes) {
    const auto bytes = static_cast<size_t>(std::min(kLanes, count - i)) * sizeof(float);
    Floats values = {};
    std::memcpy(&values, x + i, bytes);
    const Real result = value_of<Real, Bits>(function, number, __builtin_convertvector(values, Real));
    values = __builtin_convertvector(result, Floats);
    std::memcpy(y + i, &values, bytes);
  }
}

}  // namespace
}  // namespace ptqx::kernels
