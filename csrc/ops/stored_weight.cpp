#include "ops/stored_weight.h"

#include <ATen/ops/empty.h>

#include "ops/checks.h"
#include "ops/pack.h"

namespace ptqx::ops {
namespace {

/// Row by row: the code q becomes levels[row][q + 2^(bits - 1)].
at::Tensor looked_up(const at::Tensor& codes, const at::Tensor& levels, int64_t bits) {
  at::Tensor values = at::empty(codes.sizes(), codes.options());
  const at::Tensor table = levels.contiguous();
  const int64_t row = codes.numel() / codes.size(0), width = int64_t{1} << bits;
  const int8_t* x = codes.const_data_ptr<int8_t>();
  int8_t* y = values.mutable_data_ptr<int8_t>();
  for (int64_t r = 0; r < codes.size(0); ++r) {
    const int8_t* middle = table.const_data_ptr<int8_t>() + (table.size(0) == 1 ? 0 : r * width) + width / 2;
    for (int64_t i = r * row; i < (r + 1) * row; ++i) y[i] = middle[x[i]];
  }
  return values;
}

}  // namespace

void StoredWeight::check() const {
  TORCH_CHECK_VALUE(1 <= bits && bits <= 8, "weight_bits must lie in 1..8, got ", bits);
  TORCH_CHECK_VALUE((bits < 8) == shape.has_value(),
                    "weight_shape must be given where weight_bits is below 8, ", "and only there, got ",
                    shape.value_or(at::IntArrayRef()), " with weight_bits ", bits);
  if (bits < 8) check_unpack(codes, "weight", bits, *shape, "weight_shape");
  if (!levels) return;
  if (bits == 8) check_dtype(codes, "weight", {at::kChar});
  check_dtype(*levels, "weight_levels", {at::kChar});
  const c10::SymInt rows = bits < 8 ? c10::SymInt(shape->front()) : codes.sym_size(0);
  TORCH_CHECK_VALUE(levels->dim() == 2 && (levels->sym_size(0) == 1 || levels->sym_size(0) == rows) &&
                        levels->sym_size(1) == (int64_t{1} << bits),
                    "weight_levels must have shape [1 or ", rows, ", ", int64_t{1} << bits, "], got ",
                    levels->sym_sizes());
}

at::ScalarType StoredWeight::type() const { return bits < 8 ? at::kChar : codes.scalar_type(); }

at::Tensor StoredWeight::outline() const {
  check();
  return bits == 8 ? codes : at::empty(*shape, at::TensorOptions(at::kMeta).dtype(at::kChar));
}

at::Tensor StoredWeight::unpacked() const {
  const at::Tensor values = bits == 8 ? codes.contiguous() : unpack_codes(codes, bits, *shape);
  return levels && values.numel() > 0 ? looked_up(values, *levels, bits) : values;
}

}  // namespace ptqx::ops
