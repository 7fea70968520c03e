#pragma once

// Sums of products of 16-bit codes, exact in int64.

#include <cstdint>
#include <span>

#include "kernels/dispatch.h"

namespace ptqx::kernels {

/// sum x[i] * w[i]; n <= 2^32. A call is short: callers look for the best row once, not for each sum.
using DotS16Fn = int64_t(const int16_t* x, const int16_t* w, int64_t n);
std::span<const Row<DotS16Fn>> dot_s16_rows();

}  // namespace ptqx::kernels
