#include "kernels/ceiling.h"

namespace ptqx::kernels {
namespace {

/// acc = acc * x + y, `rounds` times over independent accumulators. A polynomial in x: the compiler can
/// leave nothing out.
template <class T>
int64_t multiply_accumulate(int64_t rounds, T x, T y) {
  constexpr int kAccumulators = 8;
  T acc[kAccumulators] = {};
  for (int64_t round = 0; round < rounds; ++round) {
    for (T& a : acc) a = a * x + y;
  }
  T sum = 0;
  for (const T a : acc) sum += a;
  volatile T result = sum;
  static_cast<void>(result);
  return rounds * kAccumulators;
}

}  // namespace

int64_t u8s8_ceiling_scalar(int64_t rounds) {
  volatile uint32_t factor = 200;  // read once: its value is nothing the compiler may reckon with
  return multiply_accumulate<uint32_t>(rounds, factor, factor);
}

int64_t f32_ceiling_scalar(int64_t rounds) {
  volatile float factor = 0.5F;
  return multiply_accumulate<float>(rounds, factor, factor);
}

uint64_t stream_read_scalar(const uint64_t* words, int64_t n) {
  uint64_t sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += words[i];
  return sum;
}

}  // namespace ptqx::kernels
