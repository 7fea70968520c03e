#pragma once

#include <ATen/core/Tensor.h>

namespace ptqx::ops {

/// `packed` holds codes of that many bits (1 to 7) of that shape.
void check_unpack(const at::Tensor& packed, const char* name, int64_t bits, at::IntArrayRef sizes,
                  const char* sizes_name);

/// int8 codes of a checked tensor on the CPU.
at::Tensor unpack_codes(const at::Tensor& packed, int64_t bits, at::IntArrayRef sizes);

}  // namespace ptqx::ops
