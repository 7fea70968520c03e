// matmul: the product of two matrices of codes, neither of which is a weight.

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>

#include "engine/row_product.h"
#include "ops/checks.h"
#include "ops/layout.h"
#include "ops/real_or_codes.h"
#include "ops/registration.h"

namespace ptqx::ops {
namespace {

using engine::RowProduct;

Tensor matmul_meta(const Tensor& a, const Tensor& a_scale, const Tensor& a_zero_point, const Tensor& b,
                   const Tensor& b_scale, const Tensor& b_zero_point, double factor,
                   const std::optional<Tensor>& output_scale, const std::optional<Tensor>& output_zero_point,
                   int64_t qmin, int64_t qmax) {
  check_codes(a, "a");
  check_codes(b, "b");
  check_dim(a, "a", 4);
  check_dim(b, "b", 4);
  check_per_tensor(a_scale, a_zero_point, "a_");
  check_per_tensor(b_scale, b_zero_point, "b_");
  for (int64_t d = 0; d < 3; ++d) {
    TORCH_CHECK_VALUE(a.sym_size(d) == b.sym_size(d), "b must have shape [", a.sym_size(0), ", ",
                      a.sym_size(1), ", ", a.sym_size(2), ", columns] as a has, got ", b.sym_sizes());
  }
  TORCH_CHECK_VALUE(a.sym_size(1) <= engine::kMostProductDepth, "a must have at most ",
                    engine::kMostProductDepth, " channels, so that int32 holds the sums, got ",
                    a.sym_size(1));
  TORCH_CHECK_VALUE(factor > 0 && std::isfinite(factor), "factor must be positive and finite, got ", factor);
  const c10::SymDimVector sizes = {a.sym_size(0), b.sym_size(3), a.sym_size(2), a.sym_size(3)};
  return real_or_codes(sizes, a, {output_scale, output_zero_point, qmin, qmax});
}

Tensor matmul_cpu(const Tensor& a, const Tensor& a_scale, const Tensor& a_zero_point, const Tensor& b,
                  const Tensor& b_scale, const Tensor& b_zero_point, double factor,
                  const std::optional<Tensor>& output_scale, const std::optional<Tensor>& output_zero_point,
                  int64_t qmin, int64_t qmax) {
  Tensor output = matmul_meta(a, a_scale, a_zero_point, b, b_scale, b_zero_point, factor, output_scale,
                              output_zero_point, qmin, qmax);
  const auto qa = per_tensor_qparams(a_scale, a_zero_point, "a_", a.scalar_type());
  const auto qb = per_tensor_qparams(b_scale, b_zero_point, "b_", b.scalar_type());
  const std::optional<OutputCodes> codes =
      output_codes({output_scale, output_zero_point, qmin, qmax}, output.scalar_type());
  const OutputCodes to = codes.value_or(OutputCodes{});
  const float multiplier = qa.scale * qb.scale * static_cast<float>(factor) / to.qparams.scale;
  TORCH_CHECK_VALUE(std::isfinite(multiplier),
                    "a_scale * b_scale * factor / output_scale must be finite, got ", multiplier);
  const int64_t depth = a.size(1), columns = b.size(3), rows = a.size(3);
  if (output.numel() == 0) return output;
  if (depth == 0) {  // sums of 0, whose code may lie outside of qmin..qmax
    return output.fill_(codes ? std::clamp<int64_t>(output_zero_point->item<int32_t>(), qmin, qmax) : 0);
  }

  const RowProduct product({.depth = depth, .columns = columns},
                           {.a_zero_point = qa.zero_point + zero_point_shift(a.scalar_type()),
                            .b_zero_point = qb.zero_point + zero_point_shift(b.scalar_type()),
                            .multiplier = multiplier,
                            .to_real = !codes,
                            .zero_point = to.qparams.zero_point,
                            .qmin = to.qmin,
                            .qmax = to.qmax});
  const Tensor left = with_slack(dense_codes(a), RowProduct::kSlack), right = dense_codes(b);
  const auto* pa = left.const_data_ptr<uint8_t>();
  const auto* pb = right.const_data_ptr<uint8_t>();
  auto* y = static_cast<char*>(output.mutable_data_ptr());
  const auto packed_bytes = static_cast<int64_t>(product.packed_bytes());
  const int64_t products = a.size(0) * a.size(2), panels = product.panels();
  const Tensor packed = at::empty({products * packed_bytes}, right.options());
  auto* panel = packed.mutable_data_ptr<uint8_t>();
  at::parallel_for(0, products * panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      product.pack(pb + i / panels * columns * depth, i % panels, panel + i / panels * packed_bytes);
    }
  });
  const int64_t blocks = (rows + RowProduct::kChunkRows - 1) / RowProduct::kChunkRows;
  const int64_t row_bytes = columns * static_cast<int64_t>(output.element_size());
  at::parallel_for(0, products * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i % blocks * RowProduct::kChunkRows;
      const int64_t row = i / blocks * rows + first;
      product.run(pa + row * depth, std::min(rows - first, RowProduct::kChunkRows),
                  panel + i / blocks * packed_bytes, y + row * row_bytes);
    }
  });
  if (codes) finish_codes(output);
  return output;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(ptqx, m) {
  // Of a [N, K, R, M] and b [N, K, R, L], [N, L, R, M]: seen as [N, R, M, K], a times b transposed.
  //   t = float32(sum over k of (a - a_zero_point) (b - b_zero_point)) * (a_scale * b_scale * factor)
  // float32, or with output_scale its codes, for which the scales and the factor are divided by it.
  m.def(
      "matmul(Tensor a, Tensor a_scale, Tensor a_zero_point, Tensor b, Tensor b_scale, Tensor b_zero_point, "
      "float factor=1.0, Tensor? output_scale=None, Tensor? output_zero_point=None, int qmin=0, "
      "int qmax=255) -> Tensor",
      kAnyStrides);
}
TORCH_LIBRARY_IMPL(ptqx, Meta, m) { m.impl("matmul", matmul_meta); }
TORCH_LIBRARY_IMPL(ptqx, CPU, m) { m.impl("matmul", matmul_cpu); }
TORCH_LIBRARY_IMPL(ptqx, Autograd, m) { m.impl("matmul", no_derivative()); }

}  // namespace ptqx::ops
