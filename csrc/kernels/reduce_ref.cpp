#include "kernels/reduce.h"

#include <limits>

#include "kernels/arith.h"

namespace ptqx::kernels {

MinMax min_max_scalar(const float* x, int64_t n) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  MinMax result{kInfinity, -kInfinity, 0};
  for (int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(x[i])) {
      ++result.nonfinite;
      continue;
    }
    result.min = std::min(result.min, x[i]);
    result.max = std::max(result.max, x[i]);
  }
  result.min += 0.0F;  // -0 becomes +0
  result.max += 0.0F;
  return result;
}

Moments moments_scalar(const float* x, int64_t n) {
  double sums[16] = {};
  double squares[16] = {};
  int64_t nonfinite = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(x[i])) {
      ++nonfinite;
      continue;
    }
    const double value = x[i];
    sums[i % 16] += value;
    squares[i % 16] += value * value;
  }
  return {sum_lanes(sums), sum_lanes(squares), nonfinite};
}

int64_t histogram_scalar(const float* x, int64_t n, float low, float high, int64_t* counts, int64_t bins) {
  const double bins_per_unit = static_cast<double>(bins) / (static_cast<double>(high) - low);
  int64_t outside = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(x[i])) continue;
    if (x[i] < low || x[i] > high) {
      ++outside;
    } else if (x[i] == high) {
      ++counts[bins - 1];
    } else {
      const auto bin = static_cast<int64_t>((static_cast<double>(x[i]) - low) * bins_per_unit);
      ++counts[std::min(bin, bins - 1)];
    }
  }
  return outside;
}

}  // namespace ptqx::kernels
