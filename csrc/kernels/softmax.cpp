#include "kernels/softmax.h"

#include <cmath>
#include <numbers>
#include <vector>

#include "kernels/exp.h"
#include "kernels/quantize.h"
#include "kernels/reduce.h"

namespace ptqx::kernels {

ExpSumFn exp_sum_scalar, exp_sum_avx2, exp_sum_avx512vnni;
SoftmaxRowFn softmax_row_scalar, softmax_row_avx2, softmax_row_avx512vnni;

std::span<const Row<ExpSumFn>> exp_sum_rows() {
  static constexpr Row<ExpSumFn> kRows[] = {
      {"exp_sum_scalar", Isa::kScalar, exp_sum_scalar},
      {"exp_sum_avx2", Isa::kAvx2, exp_sum_avx2},
      {"exp_sum_avx512vnni", Isa::kAvx512Vnni, exp_sum_avx512vnni},
  };
  return kRows;
}

std::span<const Row<SoftmaxRowFn>> softmax_row_rows() {
  static constexpr Row<SoftmaxRowFn> kRows[] = {
      {"softmax_row_scalar", Isa::kScalar, softmax_row_scalar},
      {"softmax_row_avx2", Isa::kAvx2, softmax_row_avx2},
      {"softmax_row_avx512vnni", Isa::kAvx512Vnni, softmax_row_avx512vnni},
  };
  return kRows;
}

namespace {

/// ln x of x >= 1, by x = 2^n m with m near 1 and ln m = 2 artanh((m - 1) / (m + 1)).
double log_of_large(double x) {
  int n = 0;
  double m = std::frexp(x, &n);
  if (m < std::numbers::sqrt2 / 2) {
    m *= 2;
    --n;
  }
  const double f = (m - 1) / (m + 1), square = f * f;
  double series = 0.0;
  for (int k = 25; k >= 1; k -= 2) series = series * square + 1.0 / k;
  return n * kLn2High + (2 * f * series + n * kLn2Low);
}

/// Calls of_row(row, max) for each row of finite x; returns how many x are not finite.
template <class OfRow>
int64_t for_each_row(const float* x, int64_t rows, int64_t classes, OfRow of_row) {
  MinMaxFn* const min_max_of = best_row(min_max_rows()).function;
  int64_t nonfinite = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const MinMax range = min_max_of(x + row * classes, classes);
    nonfinite += range.nonfinite;
    if (range.nonfinite == 0) of_row(row, double{range.max});
  }
  return nonfinite;
}

}  // namespace

int64_t softmax_f32(const float* x, int64_t rows, int64_t classes, bool log, float* y) {
  ExpSumFn* const exp_sum = best_row(exp_sum_rows()).function;
  SoftmaxRowFn* const softmax_row = best_row(softmax_row_rows()).function;
  return for_each_row(x, rows, classes, [&](int64_t row, double largest) {
    const float* const from = x + row * classes;
    float* const to = y + row * classes;
    if (!log) return softmax_row(from, classes, largest, to);
    const double log_sum = log_of_large(exp_sum(from, classes, largest));
    for (int64_t i = 0; i < classes; ++i) to[i] = static_cast<float>((from[i] - largest) - log_sum);
  });
}

int64_t softmax_u8(const float* x, int64_t rows, int64_t classes, QParams output, int32_t qmin, int32_t qmax,
                   uint8_t* y) {
  SoftmaxRowFn* const softmax_row = best_row(softmax_row_rows()).function;
  QuantizeU8Fn* const quantize = best_row(quantize_u8_rows()).function;
  std::vector<float> shares(static_cast<size_t>(classes));
  return for_each_row(x, rows, classes, [&](int64_t row, double largest) {
    softmax_row(x + row * classes, classes, largest, shares.data());
    quantize(shares.data(), {1, 1, classes}, &output.scale, &output.zero_point, qmin, qmax,
             y + row * classes);
  });
}

}  // namespace ptqx::kernels
