// pack_int4, pack_int2, pack_int1 and back: codes of few bits, several a byte.

#include "kernels/pack.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "ops/checks.h"
#include "ops/registration.h"

namespace ptqx::ops {
namespace {

struct Width {
  int64_t codes_per_byte;
  int8_t low, high;
  kernels::PackFn* pack;
  kernels::UnpackFn* unpack;
};
constexpr Width kInt4{2, -8, 7, kernels::pack_int4, kernels::unpack_int4};
constexpr Width kInt2{4, -2, 1, kernels::pack_int2, kernels::unpack_int2};
constexpr Width kInt1{8, -1, 0, kernels::pack_int1, kernels::unpack_int1};

// ---- shapes ----

template <const Width& width>
Tensor pack_meta(const Tensor& input) {
  check_dtype(input, "input", {at::kChar});
  TORCH_CHECK_VALUE(input.dim() >= 1, "input must have at least one dimension, got a scalar");
  c10::SymInt row = 1;
  for (const c10::SymInt& size : input.sym_sizes().slice(1)) row = row * size;
  const c10::SymInt bytes = (row + (width.codes_per_byte - 1)) / width.codes_per_byte;
  return at::empty_symint({input.sym_size(0), bytes}, input.options().dtype(at::kByte));
}

template <const Width& width>
Tensor unpack_meta(const Tensor& packed, at::IntArrayRef sizes) {
  check_dtype(packed, "packed", {at::kByte});
  check_dim(packed, "packed", 2);
  TORCH_CHECK_VALUE(!sizes.empty(), "sizes must have at least one entry, got none");
  check_ints(sizes, "sizes", sizes.size(), 0);
  // Compared by division: the product of hostile sizes may overflow.
  constexpr int64_t kMost = int64_t{1} << 40;
  int64_t row = 1;
  for (const int64_t size : sizes.slice(1)) {
    TORCH_CHECK_VALUE(size == 0 || row <= kMost / size, "sizes must have a product that fits memory, got ",
                      sizes);
    row *= size;
  }
  const int64_t bytes = (row + width.codes_per_byte - 1) / width.codes_per_byte;
  TORCH_CHECK_VALUE(packed.sym_size(0) == sizes[0] && packed.sym_size(1) == bytes, "packed must have shape [",
                    sizes[0], ", ", bytes, "] for sizes ", sizes, ", got ", packed.sym_sizes());
  return at::empty(sizes, packed.options().dtype(at::kChar));
}

// ---- CPU ----

template <const Width& width>
Tensor pack_cpu(const Tensor& input) {
  Tensor packed = pack_meta<width>(input);
  const Tensor dense = input.contiguous();
  const int8_t* x = dense.const_data_ptr<int8_t>();
  for (int64_t i = 0; i < dense.numel(); ++i) {
    TORCH_CHECK_VALUE(width.low <= x[i] && x[i] <= width.high, "input must lie in ", int{width.low}, "..",
                      int{width.high}, ", got ", int{x[i]}, " at index ", i);
  }
  if (packed.numel() == 0) return packed;
  const int64_t row = dense.numel() / packed.size(0);
  uint8_t* y = packed.mutable_data_ptr<uint8_t>();
  for (int64_t r = 0; r < packed.size(0); ++r) width.pack(x + r * row, row, y + r * packed.size(1));
  return packed;
}

template <const Width& width>
Tensor unpack_cpu(const Tensor& packed, at::IntArrayRef sizes) {
  Tensor output = unpack_meta<width>(packed, sizes);
  if (output.numel() == 0) return output;
  const Tensor dense = packed.contiguous();
  const uint8_t* x = dense.const_data_ptr<uint8_t>();
  const int64_t row = output.numel() / packed.size(0);
  int8_t* y = output.mutable_data_ptr<int8_t>();
  for (int64_t r = 0; r < packed.size(0); ++r) width.unpack(x + r * packed.size(1), row, y + r * row);
  return output;
}

}  // namespace

// Row by row of dimension 0: [rows, ...] int8 <-> [rows, bytes] uint8, the first code in the lowest bits.
TORCH_LIBRARY_FRAGMENT(ptqx, m) {
  m.def("pack_int4(Tensor input) -> Tensor", kAnyStrides);
  m.def("unpack_int4(Tensor packed, int[] sizes) -> Tensor", kAnyStrides);
  m.def("pack_int2(Tensor input) -> Tensor", kAnyStrides);
  m.def("unpack_int2(Tensor packed, int[] sizes) -> Tensor", kAnyStrides);
  m.def("pack_int1(Tensor input) -> Tensor", kAnyStrides);
  m.def("unpack_int1(Tensor packed, int[] sizes) -> Tensor", kAnyStrides);
}
TORCH_LIBRARY_IMPL(ptqx, Meta, m) {
  m.impl("pack_int4", pack_meta<kInt4>);
  m.impl("unpack_int4", unpack_meta<kInt4>);
  m.impl("pack_int2", pack_meta<kInt2>);
  m.impl("unpack_int2", unpack_meta<kInt2>);
  m.impl("pack_int1", pack_meta<kInt1>);
  m.impl("unpack_int1", unpack_meta<kInt1>);
}
TORCH_LIBRARY_IMPL(ptqx, CPU, m) {
  m.impl("pack_int4", pack_cpu<kInt4>);
  m.impl("unpack_int4", unpack_cpu<kInt4>);
  m.impl("pack_int2", pack_cpu<kInt2>);
  m.impl("unpack_int2", unpack_cpu<kInt2>);
  m.impl("pack_int1", pack_cpu<kInt1>);
  m.impl("unpack_int1", unpack_cpu<kInt1>);
}
TORCH_LIBRARY_IMPL(ptqx, Autograd, m) {
  m.impl("pack_int4", no_derivative());
  m.impl("unpack_int4", no_derivative());
  m.impl("pack_int2", no_derivative());
  m.impl("unpack_int2", no_derivative());
  m.impl("pack_int1", no_derivative());
  m.impl("unpack_int1", no_derivative());
}

}  // namespace ptqx::ops
