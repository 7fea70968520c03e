#include "kernels/fake_quantize.h"

namespace ptqx::kernels {

FakeQuantizeFn fake_quantize_scalar, fake_quantize_avx2, fake_quantize_avx512vnni;

std::span<const Row<FakeQuantizeFn>> fake_quantize_rows() {
  static constexpr Row<FakeQuantizeFn> kRows[] = {
      {"fake_quantize_scalar", Isa::kScalar, fake_quantize_scalar},
      {"fake_quantize_avx2", Isa::kAvx2, fake_quantize_avx2},
      {"fake_quantize_avx512vnni", Isa::kAvx512Vnni, fake_quantize_avx512vnni},
  };
  return kRows;
}

void fake_quantize(const float* x, Blocks blocks, const float* scale, const int32_t* zero_point, int32_t qmin,
                   int32_t qmax, float* y, Store store) {
  best_row(fake_quantize_rows()).function(x, blocks, scale, zero_point, qmin, qmax, y, store);
}

FakeQuantizeBackwardFn fake_quantize_backward_scalar, fake_quantize_backward_avx2,
    fake_quantize_backward_avx512vnni;

std::span<const Row<FakeQuantizeBackwardFn>> fake_quantize_backward_rows() {
  static constexpr Row<FakeQuantizeBackwardFn> kRows[] = {
      {"fake_quantize_backward_scalar", Isa::kScalar, fake_quantize_backward_scalar},
      {"fake_quantize_backward_avx2", Isa::kAvx2, fake_quantize_backward_avx2},
      {"fake_quantize_backward_avx512vnni", Isa::kAvx512Vnni, fake_quantize_backward_avx512vnni},
  };
  return kRows;
}

void fake_quantize_backward(const float* dy, const float* x, int64_t n, float scale, int32_t zero_point,
                            int32_t qmin, int32_t qmax, float* dx, Store store, double sums[2]) {
  best_row(fake_quantize_backward_rows()).function(dy, x, n, scale, zero_point, qmin, qmax, dx, store, sums);
}

}  // namespace ptqx::kernels
