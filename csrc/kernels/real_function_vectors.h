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
  const auto of_vector = [=](const float* from, float* to) {
    Floats values;
    std::memcpy(&values, from, sizeof(values));
    const Real result = value_of<Real, Bits>(function, number, __builtin_convertvector(values, Real));
    values = __builtin_convertvector(result, Floats);
    std::memcpy(to, &values, sizeof(values));
  };
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) of_vector(x + i, y + i);
  float rest[kLanes] = {};
  std::copy_n(x + i, count - i, rest);
  of_vector(rest, rest);
  std::copy_n(rest, count - i, y + i);
}

}  // namespace
}  // namespace ptqx::kernels
