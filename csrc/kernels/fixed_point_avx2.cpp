#include "kernels/fixed_point_vectors.h"

namespace ptqx::kernels {

FixedPointFn fixed_point_avx2;

void fixed_point_avx2(const FixedPointArgs& args) { fixed_point<32>(args); }

}  // namespace ptqx::kernels
