#pragma once

// Sums without floats, on vectors of `Bytes` bytes.

#include "kernels/fixed_point_vectors.h"
#include "kernels/pointwise.h"

namespace ptqx::kernels {
namespace {

template <int Bytes>
class AddFixedPoint {
 public:
  explicit AddFixedPoint(const AddFixedPointArgs& args)
      : args_(args),
        a_multiplier_(Signed{} + args.a_multiplier),
        b_multiplier_(Signed{} + args.b_multiplier),
        start_(-int64_t{args.a_zero_point} * args.a_multiplier -
               int64_t{args.b_zero_point} * args.b_multiplier),
        shifted_(VectorOf<uint64_t, Bytes>{} + static_cast<uint64_t>(args.shift)) {}

  static constexpr int64_t kLanes = Bytes / 8;
  using Codes = VectorOf<uint8_t, kLanes>;

  Codes operator()(const uint8_t* a, const uint8_t* b) const {
    const Signed sum = product_s32<Bytes>(load_bytes<Bytes>(a), a_multiplier_) +
                       product_s32<Bytes>(load_bytes<Bytes>(b), b_multiplier_) + start_;
    return __builtin_convertvector(
        clamp_codes<Bytes>(shifted_(sum), args_.output_zero_point, args_.qmin, args_.qmax), Codes);
  }

 private:
  using Signed = VectorOf<int64_t, Bytes>;

  const AddFixedPointArgs args_;
  const Signed a_multiplier_, b_multiplier_;
  const int64_t start_;  // what zero points take away
  const HalfToEvenShift<Bytes> shifted_;
};

template <int Bytes>
inline void add_fixed_point(const uint8_t* a, const uint8_t* b, int64_t n, const AddFixedPointArgs& args,
                            uint8_t* y) {
  using Add = AddFixedPoint<Bytes>;
  const Add add(args);
  int64_t i = 0;
  for (; i + Add::kLanes <= n; i += Add::kLanes) {
    const auto sum = add(a + i, b + i);
    std::memcpy(y + i, &sum, sizeof sum);
  }
  if (i == n) return;
  const auto rest = static_cast<size_t>(n - i);
  uint8_t left[Add::kLanes] = {}, right[Add::kLanes] = {};
  std::memcpy(left, a + i, rest);
  std::memcpy(right, b + i, rest);
  const auto sum = add(left, right);
  std::memcpy(y + i, &sum, rest);
}

}  // namespace
}  // namespace ptqx::kernels
