#include "kernels/pointwise.h"

namespace ptqx::kernels {

AddU8Fn add_u8_scalar, add_u8_avx2, add_u8_avx512vnni;

std::span<const Row<AddU8Fn>> add_u8_rows() {
  static constexpr Row<AddU8Fn> kRows[] = {
      {"add_u8_scalar", Isa::kScalar, add_u8_scalar},
      {"add_u8_avx2", Isa::kAvx2, add_u8_avx2},
      {"add_u8_avx512vnni", Isa::kAvx512Vnni, add_u8_avx512vnni},
  };
  return kRows;
}

void add_u8(const uint8_t* a, int32_t a_zero_point, float a_multiplier, const uint8_t* b,
            int32_t b_zero_point, float b_multiplier, int64_t n, const PointwiseTail& tail, uint8_t* y) {
  best_row(add_u8_rows()).function(a, a_zero_point, a_multiplier, b, b_zero_point, b_multiplier, n, tail, y);
}

AddFixedPointU8Fn add_fixed_point_u8_scalar, add_fixed_point_u8_avx2, add_fixed_point_u8_avx512vnni;

std::span<const Row<AddFixedPointU8Fn>> add_fixed_point_u8_rows() {
  static constexpr Row<AddFixedPointU8Fn> kRows[] = {
      {"add_fixed_point_u8_scalar", Isa::kScalar, add_fixed_point_u8_scalar},
      {"add_fixed_point_u8_avx2", Isa::kAvx2, add_fixed_point_u8_avx2},
      {"add_fixed_point_u8_avx512vnni", Isa::kAvx512Vnni, add_fixed_point_u8_avx512vnni},
  };
  return kRows;
}

void add_fixed_point_u8(const uint8_t* a, const uint8_t* b, int64_t n, const AddFixedPointArgs& args,
                        uint8_t* y) {
  best_row(add_fixed_point_u8_rows()).function(a, b, n, args, y);
}

MulU8Fn mul_u8_scalar, mul_u8_avx2, mul_u8_avx512vnni;

std::span<const Row<MulU8Fn>> mul_u8_rows() {
  static constexpr Row<MulU8Fn> kRows[] = {
      {"mul_u8_scalar", Isa::kScalar, mul_u8_scalar},
      {"mul_u8_avx2", Isa::kAvx2, mul_u8_avx2},
      {"mul_u8_avx512vnni", Isa::kAvx512Vnni, mul_u8_avx512vnni},
  };
  return kRows;
}

void mul_u8(const uint8_t* a, int32_t a_zero_point, const uint8_t* b, int32_t b_zero_point, float multiplier,
            int64_t n, const PointwiseTail& tail, uint8_t* y) {
  best_row(mul_u8_rows()).function(a, a_zero_point, b, b_zero_point, multiplier, n, tail, y);
}

LookupU8Fn lookup_u8_scalar, lookup_u8_avx2, lookup_u8_avx512vnni, lookup_u8_avx512vpopcntdq;

std::span<const Row<LookupU8Fn>> lookup_u8_rows() {
  static constexpr Row<LookupU8Fn> kRows[] = {
      {"lookup_u8_scalar", Isa::kScalar, lookup_u8_scalar},
      {"lookup_u8_avx2", Isa::kAvx2, lookup_u8_avx2},
      {"lookup_u8_avx512vnni", Isa::kAvx512Vnni, lookup_u8_avx512vnni},
      {"lookup_u8_avx512vpopcntdq", Isa::kAvx512Vpopcntdq, lookup_u8_avx512vpopcntdq},
  };
  return kRows;
}

void lookup_u8(const uint8_t* x, int64_t n, const uint8_t table[256], uint8_t* y) {
  best_row(lookup_u8_rows()).function(x, n, table, y);
}

FlipSignU8Fn flip_sign_u8_scalar, flip_sign_u8_avx2, flip_sign_u8_avx512vnni;

std::span<const Row<FlipSignU8Fn>> flip_sign_u8_rows() {
  static constexpr Row<FlipSignU8Fn> kRows[] = {
      {"flip_sign_u8_scalar", Isa::kScalar, flip_sign_u8_scalar},
      {"flip_sign_u8_avx2", Isa::kAvx2, flip_sign_u8_avx2},
      {"flip_sign_u8_avx512vnni", Isa::kAvx512Vnni, flip_sign_u8_avx512vnni},
  };
  return kRows;
}

void flip_sign_u8(const uint8_t* x, int64_t n, uint8_t* y) {
  best_row(flip_sign_u8_rows()).function(x, n, y);
}

void mul_u8_channels(const uint8_t* a, int32_t a_zero_point, const uint8_t* b, int32_t b_zero_point,
                     float multiplier, int64_t pixels, int64_t c, const PointwiseTail& tail, uint8_t* y) {
  MulU8Fn* mul = best_row(mul_u8_rows()).function;
  for (int64_t pixel = 0; pixel < pixels; ++pixel) {
    mul(a + pixel * c, a_zero_point, b, b_zero_point, multiplier, c, tail, y + pixel * c);
  }
}

}  // namespace ptqx::kernels
