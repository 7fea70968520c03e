#include "kernels/reduce.h"

namespace ptqx::kernels {

MinMaxFn min_max_scalar, min_max_avx2, min_max_avx512vnni;

std::span<const Row<MinMaxFn>> min_max_rows() {
  static constexpr Row<MinMaxFn> kRows[] = {
      {"min_max_scalar", Isa::kScalar, min_max_scalar},
      {"min_max_avx2", Isa::kAvx2, min_max_avx2},
      {"min_max_avx512vnni", Isa::kAvx512Vnni, min_max_avx512vnni},
  };
  return kRows;
}

MinMax min_max(const float* x, int64_t n) { return best_row(min_max_rows()).function(x, n); }

MomentsFn moments_scalar, moments_avx2, moments_avx512vnni;

std::span<const Row<MomentsFn>> moments_rows() {
  static constexpr Row<MomentsFn> kRows[] = {
      {"moments_scalar", Isa::kScalar, moments_scalar},
      {"moments_avx2", Isa::kAvx2, moments_avx2},
      {"moments_avx512vnni", Isa::kAvx512Vnni, moments_avx512vnni},
  };
  return kRows;
}

Moments moments(const float* x, int64_t n) { return best_row(moments_rows()).function(x, n); }

HistogramFn histogram_scalar, histogram_avx2, histogram_avx512vnni;

std::span<const Row<HistogramFn>> histogram_rows() {
  static constexpr Row<HistogramFn> kRows[] = {
      {"histogram_scalar", Isa::kScalar, histogram_scalar},
      {"histogram_avx2", Isa::kAvx2, histogram_avx2},
      {"histogram_avx512vnni", Isa::kAvx512Vnni, histogram_avx512vnni},
  };
  return kRows;
}

int64_t histogram(const float* x, int64_t n, float low, float high, int64_t* counts, int64_t bins) {
  return best_row(histogram_rows()).function(x, n, low, high, counts, bins);
}

}  // namespace ptqx::kernels
