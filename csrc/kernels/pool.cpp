#include "kernels/pool.h"

namespace ptqx::kernels {

MaxPool2dU8Fn max_pool2d_u8_scalar, max_pool2d_u8_avx2, max_pool2d_u8_avx512vnni;

std::span<const Row<MaxPool2dU8Fn>> max_pool2d_u8_rows() {
  static constexpr Row<MaxPool2dU8Fn> kRows[] = {
      {"max_pool2d_u8_scalar", Isa::kScalar, max_pool2d_u8_scalar},
      {"max_pool2d_u8_avx2", Isa::kAvx2, max_pool2d_u8_avx2},
      {"max_pool2d_u8_avx512vnni", Isa::kAvx512Vnni, max_pool2d_u8_avx512vnni},
  };
  return kRows;
}

void max_pool2d_u8(const uint8_t* x, const PoolShape& shape, uint8_t* y) {
  best_row(max_pool2d_u8_rows()).function(x, shape, y);
}

AvgPool2dU8Fn avg_pool2d_u8_scalar, avg_pool2d_u8_avx2, avg_pool2d_u8_avx512vnni;

std::span<const Row<AvgPool2dU8Fn>> avg_pool2d_u8_rows() {
  static constexpr Row<AvgPool2dU8Fn> kRows[] = {
      {"avg_pool2d_u8_scalar", Isa::kScalar, avg_pool2d_u8_scalar},
      {"avg_pool2d_u8_avx2", Isa::kAvx2, avg_pool2d_u8_avx2},
      {"avg_pool2d_u8_avx512vnni", Isa::kAvx512Vnni, avg_pool2d_u8_avx512vnni},
  };
  return kRows;
}

void avg_pool2d_u8(const uint8_t* x, const PoolShape& shape, const AvgPoolArgs& args, uint8_t* y) {
  best_row(avg_pool2d_u8_rows()).function(x, shape, args, y);
}

AvgPool2dU8Fn adaptive_avg_pool2d_u8_scalar, adaptive_avg_pool2d_u8_avx2, adaptive_avg_pool2d_u8_avx512vnni;

std::span<const Row<AvgPool2dU8Fn>> adaptive_avg_pool2d_u8_rows() {
  static constexpr Row<AvgPool2dU8Fn> kRows[] = {
      {"adaptive_avg_pool2d_u8_scalar", Isa::kScalar, adaptive_avg_pool2d_u8_scalar},
      {"adaptive_avg_pool2d_u8_avx2", Isa::kAvx2, adaptive_avg_pool2d_u8_avx2},
      {"adaptive_avg_pool2d_u8_avx512vnni", Isa::kAvx512Vnni, adaptive_avg_pool2d_u8_avx512vnni},
  };
  return kRows;
}

void adaptive_avg_pool2d_u8(const uint8_t* x, const PoolShape& shape, const AvgPoolArgs& args, uint8_t* y) {
  best_row(adaptive_avg_pool2d_u8_rows()).function(x, shape, args, y);
}

}  // namespace ptqx::kernels
