#pragma once

// softmax.h on vectors of `Bytes` bytes, which compilers know.

#include <algorithm>
#include <cstring>

#include "kernels/arith.h"
#include "kernels/exp.h"
#include "kernels/vector_of.h"

namespace ptqx::kernels {
namespace {

template <int Bytes>
struct ExpVectors {
  using Real = VectorOf<double, Bytes>;
  using Bits = VectorOf<uint64_t, Bytes>;
  using Floats = VectorOf<float, Bytes / 2>;
  static constexpr int64_t kLanes = Bytes / sizeof(double);

  /// exp(x[i] - largest) of a whole vector, or of the first `count` elements, filled up with `largest`.
  static Real of_shifted(const float* x, double largest) {
    Floats values;
    std::memcpy(&values, x, sizeof(values));
    return exp_of_negative<Real, Bits>(__builtin_convertvector(values, Real) - largest);
  }
  static Real of_shifted(const float* x, int64_t count, double largest) {
    float values[kLanes];
    std::fill_n(values, kLanes, static_cast<float>(largest));
    std::copy_n(x, count, values);
    return of_shifted(values, largest);
  }

  /// The sum, by lanes; keep(i, exponentials) sees each vector.
  template <class Keep>
  static double sum(const float* x, int64_t n, double largest, Keep keep) {
    constexpr int64_t kVectors = 16 / kLanes;
    Real sums[kVectors] = {};
    const int64_t whole = n / 16 * 16;
    for (int64_t i = 0; i < whole; i += 16) {
      for (int64_t v = 0; v < kVectors; ++v) {
        const Real powers = of_shifted(x + i + v * kLanes, largest);
        sums[v] += powers;
        keep(i + v * kLanes, powers);
      }
    }
    double lanes[16];
    std::memcpy(lanes, sums, sizeof(lanes));
    for (int64_t i = whole; i < n; i += kLanes) {
      const int64_t count = std::min(kLanes, n - i);
      const Real powers = of_shifted(x + i, count, largest);
      for (int64_t lane = 0; lane < count; ++lane) lanes[i % 16 + lane] += powers[lane];
      keep(i, powers);
    }
    return sum_lanes(lanes);
  }

  static double sum(const float* x, int64_t n, double largest) {
    return sum(x, n, largest, [](int64_t, const Real&) {});
  }

  /// Exponentials that do not fit `kept` are computed again.
  static void softmax(const float* x, int64_t n, double largest, float* y) {
    constexpr int64_t kMostKept = 1024;
    Real kept[kMostKept / kLanes];
    const double total = sum(x, n, largest, [&](int64_t i, const Real& powers) {
      if (i < kMostKept) kept[i / kLanes] = powers;
    });
    for (int64_t i = 0; i < n; i += kLanes) {
      const int64_t count = std::min(kLanes, n - i);
      const Real powers = i < kMostKept ? kept[i / kLanes] : of_shifted(x + i, count, largest);
      const Floats shares = __builtin_convertvector(powers / total, Floats);
      if (count == kLanes) {
        std::memcpy(y + i, &shares, sizeof(shares));
      } else {
        for (int64_t lane = 0; lane < count; ++lane) y[i + lane] = shares[lane];
      }
    }
  }
};

}  // namespace
}  // namespace ptqx::kernels
