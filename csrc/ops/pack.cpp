// pack_codes, pack_int4 and back: codes of few bits, several a byte.

#include "kernels/pack.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "ops/checks.h"
#include "ops/pack.h"
#include "ops/registration.h"

namespace ptqx::ops {
namespace {

constexpr int kMostBits = 7;

void check_bits(int64_t bits) {
  TORCH_CHECK_VALUE(1 <= bits && bits <= kMostBits, "bits must lie in 1..", kMostBits, ", got ", bits);
}

}  // namespace

void check_unpack(const Tensor& packed, const char* name, int64_t bits, at::IntArrayRef sizes,
                  const char* sizes_name) {
  check_dtype(packed, name, {at::kByte});
  check_dim(packed, name, 2);
  TORCH_CHECK_VALUE(!sizes.empty(), sizes_name, " must have at least one entry, got none");
  check_ints(sizes, sizes_name, sizes.size(), 0);
  // Compared by division: the product of hostile sizes may overflow.
  constexpr int64_t kMost = int64_t{1} << 40;
  int64_t row = 1;
  for (const int64_t size : sizes.slice(1)) {
    TORCH_CHECK_VALUE(size == 0 || row <= kMost / size, sizes_name,
                      " must have a product that fits memory, got ", sizes);
    row *= size;
  }
  const int64_t bytes = kernels::packed_bytes(row, static_cast<int>(bits));
  TORCH_CHECK_VALUE(packed.sym_size(0) == sizes[0] && packed.sym_size(1) == bytes, name, " must have shape [",
                    sizes[0], ", ", bytes, "] for ", bits, "-bit codes of ", sizes_name, " ", sizes, ", got ",
                    packed.sym_sizes());
}

Tensor unpack_codes(const Tensor& packed, int64_t bits, at::IntArrayRef sizes) {
  Tensor output = at::empty(sizes, packed.options().dtype(at::kChar));
  if (output.numel() == 0) return output;
  const Tensor dense = packed.contiguous();
  const uint8_t* x = dense.const_data_ptr<uint8_t>();
  const int64_t row = output.numel() / packed.size(0);
  int8_t* y = output.mutable_data_ptr<int8_t>();
  for (int64_t r = 0; r < packed.size(0); ++r) {
    kernels::unpack_codes(x + r * packed.size(1), row, static_cast<int>(bits), y + r * row);
  }
  return output;
}

namespace {

// ---- shapes ----

Tensor pack_meta(const Tensor& input, int64_t bits) {
  check_bits(bits);
  check_dtype(input, "input", {at::kChar});
  TORCH_CHECK_VALUE(input.dim() >= 1, "input must have at least one dimension, got a scalar");
  c10::SymInt row = 1;
  for (const c10::SymInt& size : input.sym_sizes().slice(1)) row = row * size;
  return at::empty_symint({input.sym_size(0), (row * bits + 7) / 8}, input.options().dtype(at::kByte));
}

Tensor unpack_meta(const Tensor& packed, int64_t bits, at::IntArrayRef sizes) {
  check_bits(bits);
  check_unpack(packed, "packed", bits, sizes, "sizes");
  return at::empty(sizes, packed.options().dtype(at::kChar));
}

// ---- CPU ----

Tensor pack_cpu(const Tensor& input, int64_t bits) {
  Tensor packed = pack_meta(input, bits);
  const Tensor dense = input.contiguous();
  const int8_t* x = dense.const_data_ptr<int8_t>();
  const int half = 1 << (bits - 1);
  for (int64_t i = 0; i < dense.numel(); ++i) {
    TORCH_CHECK_VALUE(-half <= x[i] && x[i] < half, "input must lie in ", -half, "..", half - 1, ", got ",
                      int{x[i]}, " at index ", i);
  }
  if (packed.numel() == 0) return packed;
  const int64_t row = dense.numel() / packed.size(0);
  uint8_t* y = packed.mutable_data_ptr<uint8_t>();
  for (int64_t r = 0; r < packed.size(0); ++r) {
    kernels::pack_codes(x + r * row, row, static_cast<int>(bits), y + r * packed.size(1));
  }
  return packed;
}

Tensor unpack_cpu(const Tensor& packed, int64_t bits, at::IntArrayRef sizes) {
  check_bits(bits);
  check_unpack(packed, "packed", bits, sizes, "sizes");
  return unpack_codes(packed, bits, sizes);
}

// ---- four bits, the width that others have, too ----

constexpr int64_t kInt4 = 4;

Tensor pack_int4_meta(const Tensor& input) { return pack_meta(input, kInt4); }
Tensor pack_int4_cpu(const Tensor& input) { return pack_cpu(input, kInt4); }
Tensor unpack_int4_meta(const Tensor& packed, at::IntArrayRef sizes) {
  return unpack_meta(packed, kInt4, sizes);
}
Tensor unpack_int4_cpu(const Tensor& packed, at::IntArrayRef sizes) {
  return unpack_cpu(packed, kInt4, sizes);
}

}  // namespace

// Row by row of dimension 0: [rows, ...] int8 <-> [rows, bytes] uint8, without gaps between the codes of a
// row, the first code in the lowest bits.
TORCH_LIBRARY_FRAGMENT(ptqx, m) {
  m.def("pack_codes(Tensor input, int bits) -> Tensor", kAnyStrides);
  m.def("unpack_codes(Tensor packed, int bits, int[] sizes) -> Tensor", kAnyStrides);
  m.def("pack_int4(Tensor input) -> Tensor", kAnyStrides);
  m.def("unpack_int4(Tensor packed, int[] sizes) -> Tensor", kAnyStrides);
}
TORCH_LIBRARY_IMPL(ptqx, Meta, m) {
  m.impl("pack_codes", pack_meta);
  m.impl("unpack_codes", unpack_meta);
  m.impl("pack_int4", pack_int4_meta);
  m.impl("unpack_int4", unpack_int4_meta);
}
TORCH_LIBRARY_IMPL(ptqx, CPU, m) {
  m.impl("pack_codes", pack_cpu);
  m.impl("unpack_codes", unpack_cpu);
  m.impl("pack_int4", pack_int4_cpu);
  m.impl("unpack_int4", unpack_int4_cpu);
}
TORCH_LIBRARY_IMPL(ptqx, Autograd, m) {
  m.impl("pack_codes", no_derivative());
  m.impl("unpack_codes", no_derivative());
  m.impl("pack_int4", no_derivative());
  m.impl("unpack_int4", no_derivative());
}

}  // namespace ptqx::ops
