#pragma once

// channel_sums on vectors of `Bytes` bytes, which compilers know. Registers hold the sums of up to
// kVectors vectors of channels, a row at a time.

#include <algorithm>
#include <cstring>

#include "kernels/group_norm.h"
#include "kernels/vector_of.h"

namespace ptqx::kernels {
namespace {

template <int Bytes, int Vectors>
struct RowSums {
  using Real = VectorOf<double, Bytes>;
  using Floats = VectorOf<float, Bytes / 2>;
  static constexpr int64_t kLanes = Bytes / sizeof(double);
  static constexpr int64_t kChannels = Vectors * kLanes;

  /// Of the first `count` channels, at most kChannels of them, and all if there are several vectors.
  static void add(const float* x, int64_t w, int64_t channels, int64_t count, double* sums, double* squares) {
    Real sum[Vectors] = {}, square[Vectors] = {};
    const auto bytes = static_cast<size_t>(std::min(count, kLanes)) * sizeof(float);
    for (int64_t column = 0; column < w; ++column, x += channels) {
      for (int vector = 0; vector < Vectors; ++vector) {
        Floats values = {};
        std::memcpy(&values, x + vector * kLanes, Vectors > 1 ? sizeof values : bytes);
        const Real value = __builtin_convertvector(values, Real);
        sum[vector] += value;
        square[vector] += value * value;
      }
    }
    for (int64_t c = 0; c < count; ++c) {
      sums[c] += sum[c / kLanes][c % kLanes];
      squares[c] += square[c / kLanes][c % kLanes];
    }
  }
};

template <int Bytes>
void channel_sums_vectors(const float* x, int64_t h, int64_t w, int64_t channels, int64_t count, double* sums,
                          double* squares) {
  using Wide = RowSums<Bytes, 4>;
  using Narrow = RowSums<Bytes, 1>;
  std::fill_n(sums, count, 0.0);
  std::fill_n(squares, count, 0.0);
  for (int64_t row = 0; row < h; ++row, x += w * channels) {
    int64_t c = 0;
    for (; c + Wide::kChannels <= count; c += Wide::kChannels) {
      Wide::add(x + c, w, channels, Wide::kChannels, sums + c, squares + c);
    }
    for (; c < count; c += Narrow::kChannels) {
      Narrow::add(x + c, w, channels, std::min(Narrow::kChannels, count - c), sums + c, squares + c);
    }
  }
}

}  // namespace
}  // namespace ptqx::kernels
