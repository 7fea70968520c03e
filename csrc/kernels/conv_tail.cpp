#include "kernels/conv_tail.h"

#include <cmath>

namespace ptqx::kernels {

bool tail_is_bounded(const Tail& tail, int64_t channels) {
  if (tail.multiplier == nullptr) return false;
  constexpr double kLargestAccumulator = 2147483648.0;
  constexpr double kLimit = kLargestAccumulator * 0.999;  // leaves room for the roundings on the way
  for (int64_t c = 0; c < channels; ++c) {
    const double bias = tail.bias_f32 != nullptr ? tail.bias_f32[c] : 0.0;
    const double largest = kLargestAccumulator * std::abs(static_cast<double>(tail.multiplier[c])) +
                           std::abs(bias) + 255.0 * std::abs(static_cast<double>(tail.residual_multiplier));
    if (!(largest < kLimit)) return false;  // so that a NaN is not bounded
  }
  return true;
}

std::span<const Row<ConvTailFn>> conv_tail_rows() {
  static constexpr Row<ConvTailFn> kRows[] = {
      {"conv_tail_scalar", Isa::kScalar, conv_tail_scalar},
      {"conv_tail_avx2", Isa::kAvx2, conv_tail_avx2},
      {"conv_tail_avx512vnni", Isa::kAvx512Vnni, conv_tail_avx512vnni},
  };
  return kRows;
}

}  // namespace ptqx::kernels
