#include "kernels/fixed_point.h"

#include <algorithm>

#include "kernels/arith.h"

namespace ptqx::kernels {
namespace {

uint64_t product(const FixedPointTerm& term, int64_t i) {
  const int64_t value =
      term.wide ? static_cast<const int64_t*>(term.values)[i] : static_cast<const int32_t*>(term.values)[i];
  return (static_cast<uint64_t>(value) + static_cast<uint64_t>(term.offset[i])) *
         static_cast<uint64_t>(term.multiplier[i]);
}

}  // namespace

FixedPointFn fixed_point_scalar;

void fixed_point_scalar(const FixedPointArgs& args) {
  for (int64_t i = 0; i < args.count; ++i) {
    uint64_t sum = 0;
    for (const FixedPointTerm& term : args.terms) sum += product(term, i);
    const int64_t rounded =
        shift_half_to_even(static_cast<int64_t>(sum), static_cast<int32_t>(args.shift[i]));
    // The zero point goes to the bounds: not every 64 bits have room for it.
    const int64_t q = std::clamp(rounded, args.low - args.zero_point, args.high - args.zero_point);
    args.codes[i] = q + args.zero_point;
  }
}

}  // namespace ptqx::kernels
