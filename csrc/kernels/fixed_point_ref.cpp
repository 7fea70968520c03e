#include "kernels/arith.h"
#include "kernels/fixed_point.h"

namespace ptqx::kernels {
namespace {

uint64_t product(const FixedPointTerm& term, int64_t i) {
  int64_t value = 0;
  with_integer(term.type, [&]<class T>(T) { value = static_cast<const T*>(term.values)[i]; });
  return (static_cast<uint64_t>(value) + static_cast<uint64_t>(term.offset[i])) *
         static_cast<uint64_t>(term.multiplier[i]);
}

}  // namespace

FixedPointFn fixed_point_scalar;

void fixed_point_scalar(const FixedPointArgs& args) {
  for (int64_t i = 0; i < args.count; ++i) {
    uint64_t sum = 0;
    for (const FixedPointTerm& term : args.terms) sum += product(term, i);
    const int64_t code = requantize_fixed_point(
        static_cast<int64_t>(sum), static_cast<int32_t>(args.shift[i]), args.zero_point, args.low, args.high);
    with_integer(args.type, [&]<class T>(T) { static_cast<T*>(args.codes)[i] = static_cast<T>(code); });
  }
}

}  // namespace ptqx::kernels
