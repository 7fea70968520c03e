#include "kernels/fixed_point_vectors.h"

namespace ptqx::kernels {

FixedPointFn fixed_point_avx512vnni;

void fixed_point_avx512vnni(const FixedPointArgs& args) { fixed_point<64>(args); }

}  // namespace ptqx::kernels
