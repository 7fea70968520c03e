// add, mul, cat, lookup: operations on codes that need no neighbours.

#include "kernels/pointwise.h"

#include <ATen/ExpandUtils.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include "kernels/arith.h"
#include "ops/checks.h"
#include "ops/layout.h"
#include "ops/registration.h"

namespace ptqx::ops {
namespace {

constexpr int64_t kGrain = 65536;  // codes a thread takes at least: about 10 microseconds

// ---- shapes ----

Tensor add_meta(const Tensor& a, const Tensor& a_scale, const Tensor& a_zero_point, const Tensor& b,
                const Tensor& b_scale, const Tensor& b_zero_point, const Tensor& output_scale,
                const Tensor& output_zero_point, int64_t qmin, int64_t qmax, c10::string_view /*activation*/,
                at::ArrayRef<double> /*activation_args*/) {
  check_codes(a, "a");
  check_codes(b, "b");
  check_range(qmin, qmax);
  check_per_tensor(a_scale, a_zero_point, "a_");
  check_per_tensor(b_scale, b_zero_point, "b_");
  check_per_tensor(output_scale, output_zero_point, "output_");
  return empty_spatial(at::infer_size_symdimvector(a.sym_sizes(), b.sym_sizes()), a, code_type(qmin));
}

Tensor cat_meta(at::TensorList inputs, int64_t dim) {
  TORCH_CHECK_VALUE(!inputs.empty(), "inputs must have at least one tensor, got none");
  const Tensor& first = inputs[0];
  check_codes(first, "inputs");
  TORCH_CHECK_VALUE(-first.dim() <= dim && dim < first.dim(), "dim must lie in ", -first.dim(), "..",
                    first.dim() - 1, ", got ", dim);
  const int64_t axis = dim < 0 ? dim + first.dim() : dim;
  c10::SymDimVector sizes(first.sym_sizes().begin(), first.sym_sizes().end());
  for (const Tensor& input : inputs.slice(1)) {
    check_dtype(input, "inputs", {first.scalar_type()});
    check_dim(input, "inputs", first.dim());
    for (int64_t d = 0; d < first.dim(); ++d) {
      TORCH_CHECK_VALUE(d == axis || input.sym_size(d) == first.sym_size(d),
                        "inputs must agree in every dimension ", "but ", axis, ", got shapes ",
                        first.sym_sizes(), " and ", input.sym_sizes());
    }
    sizes[static_cast<size_t>(axis)] += input.sym_size(axis);
  }
  return empty_spatial(sizes, first, first.scalar_type());
}

Tensor lookup_meta(const Tensor& input, const Tensor& table) {
  check_codes(input, "input");
  check_codes(table, "table");
  TORCH_CHECK_VALUE(table.dim() == 1 && table.sym_size(0) == 256, "table must have shape [256], got ",
                    table.sym_sizes());
  return empty_spatial(input.sym_sizes(), input, table.scalar_type());
}

// ---- CPU ----

/// One operand of add or mul, brought to the output's shape and memory order.
struct Operand {
  Tensor codes;
  kernels::QParams qparams;  // of uint8 codes

  Operand(const Tensor& tensor, const Tensor& scale, const Tensor& zero_point, const std::string& name)
      : codes(tensor), qparams(per_tensor_qparams(scale, zero_point, name, tensor.scalar_type())) {
    qparams.zero_point += zero_point_shift(tensor.scalar_type());
  }
  const uint8_t* expanded(at::IntArrayRef sizes) {
    codes = dense_codes(codes.expand(sizes));
    return codes.const_data_ptr<uint8_t>();
  }
};

/// The end of add and mul, for uint8 codes.
kernels::PointwiseTail pointwise_tail(kernels::QParams to, int64_t qmin, int64_t qmax, at::ScalarType type,
                                      c10::string_view activation, at::ArrayRef<double> activation_args) {
  TORCH_CHECK_VALUE(activation != "prelu",
                    "activation must not be prelu in add and mul, which have no channels");
  std::vector<float> no_slopes;
  const int32_t shift = zero_point_shift(type);
  return {.activation = parse_activation(activation, activation_args, std::nullopt, 0, no_slopes),
          .output_zero_point = to.zero_point + shift,
          .qmin = static_cast<int32_t>(qmin) + shift,
          .qmax = static_cast<int32_t>(qmax) + shift};
}

Tensor add_cpu(const Tensor& a, const Tensor& a_scale, const Tensor& a_zero_point, const Tensor& b,
               const Tensor& b_scale, const Tensor& b_zero_point, const Tensor& output_scale,
               const Tensor& output_zero_point, int64_t qmin, int64_t qmax, c10::string_view activation,
               at::ArrayRef<double> activation_args) {
  Tensor output = add_meta(a, a_scale, a_zero_point, b, b_scale, b_zero_point, output_scale,
                           output_zero_point, qmin, qmax, activation, activation_args);
  Operand left(a, a_scale, a_zero_point, "a_");
  Operand right(b, b_scale, b_zero_point, "b_");
  const auto to = per_tensor_qparams(output_scale, output_zero_point, "output_", output.scalar_type());
  const auto tail = pointwise_tail(to, qmin, qmax, output.scalar_type(), activation, activation_args);
  const uint8_t* pa = left.expanded(output.sizes());
  const uint8_t* pb = right.expanded(output.sizes());
  auto* y = static_cast<uint8_t*>(output.mutable_data_ptr());
  at::parallel_for(0, output.numel(), kGrain, [&](int64_t begin, int64_t end) {
    kernels::add_u8(pa + begin, left.qparams.zero_point, left.qparams.scale / to.scale, pb + begin,
                    right.qparams.zero_point, right.qparams.scale / to.scale, end - begin, tail, y + begin);
  });
  finish_codes(output);
  return output;
}

/// [N, C, 1, 1] against the images of an output [N, C, H, W].
bool scales_channels(const Tensor& tensor, const Tensor& output) {
  return output.dim() == 4 && tensor.dim() == 4 && tensor.size(0) == output.size(0) &&
         tensor.size(1) == output.size(1) && tensor.size(2) == 1 && tensor.size(3) == 1 &&
         output.size(2) * output.size(3) > 1;
}

Tensor mul_cpu(const Tensor& a, const Tensor& a_scale, const Tensor& a_zero_point, const Tensor& b,
               const Tensor& b_scale, const Tensor& b_zero_point, const Tensor& output_scale,
               const Tensor& output_zero_point, int64_t qmin, int64_t qmax, c10::string_view activation,
               at::ArrayRef<double> activation_args) {
  Tensor output = add_meta(a, a_scale, a_zero_point, b, b_scale, b_zero_point, output_scale,
                           output_zero_point, qmin, qmax, activation, activation_args);
  Operand left(a, a_scale, a_zero_point, "a_");
  Operand right(b, b_scale, b_zero_point, "b_");
  const auto to = per_tensor_qparams(output_scale, output_zero_point, "output_", output.scalar_type());
  const auto tail = pointwise_tail(to, qmin, qmax, output.scalar_type(), activation, activation_args);
  const float multiplier = kernels::requantize_multiplier(left.qparams.scale, right.qparams.scale, to.scale);
  // Exactly commutative: a vector of channels goes to the right.
  if (scales_channels(left.codes, output)) std::swap(left, right);
  const bool by_channel = scales_channels(right.codes, output);
  const uint8_t* pa = left.expanded(output.sizes());
  const uint8_t* pb = right.expanded(by_channel ? right.codes.sizes() : output.sizes());
  auto* y = static_cast<uint8_t*>(output.mutable_data_ptr());
  const int32_t za = left.qparams.zero_point;
  const int32_t zb = right.qparams.zero_point;
  if (by_channel) {
    const int64_t c = output.size(1);
    const int64_t pixels = output.size(2) * output.size(3);
    at::parallel_for(0, output.size(0), 1, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        kernels::mul_u8_channels(pa + n * pixels * c, za, pb + n * c, zb, multiplier, pixels, c, tail,
                                 y + n * pixels * c);
      }
    });
  } else {
    at::parallel_for(0, output.numel(), kGrain, [&](int64_t begin, int64_t end) {
      kernels::mul_u8(pa + begin, za, pb + begin, zb, multiplier, end - begin, tail, y + begin);
    });
  }
  finish_codes(output);
  return output;
}

Tensor cat_cpu(at::TensorList inputs, int64_t dim) {
  Tensor output = cat_meta(inputs, dim);
  int64_t begin = 0;
  for (const Tensor& input : inputs) {
    output.narrow(dim, begin, input.size(dim)).copy_(input);
    begin += input.size(dim);
  }
  return output;
}

Tensor lookup_cpu(const Tensor& input, const Tensor& table) {
  Tensor output = lookup_meta(input, table);
  const Tensor codes = dense_codes(input);
  const Tensor entries = table.contiguous();
  const uint8_t* x = codes.const_data_ptr<uint8_t>();
  const auto* t = static_cast<const uint8_t*>(entries.const_data_ptr());
  auto* y = static_cast<uint8_t*>(output.mutable_data_ptr());
  at::parallel_for(0, output.numel(), kGrain, [&](int64_t begin, int64_t end) {
    kernels::lookup_u8(x + begin, end - begin, t, y + begin);
  });
  return output;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(ptqx, m) {
  // float32(a - a_zero_point) * (a_scale / output_scale) + the same of b, activation, one rounding.
  // Shapes broadcast.
  m.def(
      "add(Tensor a, Tensor a_scale, Tensor a_zero_point, Tensor b, Tensor b_scale, Tensor b_zero_point, "
      "Tensor output_scale, Tensor output_zero_point, int qmin, int qmax, str activation=\"none\", "
      "float[] activation_args=[]) -> Tensor",
      kAnyStrides);
  // float32((a - a_zero_point) * (b - b_zero_point)) * ((a_scale * b_scale) / output_scale), as add
  m.def(
      "mul(Tensor a, Tensor a_scale, Tensor a_zero_point, Tensor b, Tensor b_scale, Tensor b_zero_point, "
      "Tensor output_scale, Tensor output_zero_point, int qmin, int qmax, str activation=\"none\", "
      "float[] activation_args=[]) -> Tensor",
      kAnyStrides);
  // codes of one scale and zero point
  m.def("cat(Tensor[] inputs, int dim=1) -> Tensor", kAnyStrides);
  // table[q] for uint8 codes, table[q + 128] for int8 ones; the output has the table's type
  m.def("lookup(Tensor input, Tensor table) -> Tensor", kAnyStrides);
}
TORCH_LIBRARY_IMPL(ptqx, Meta, m) {
  m.impl("add", add_meta);
  m.impl("mul", add_meta);
  m.impl("cat", cat_meta);
  m.impl("lookup", lookup_meta);
}
TORCH_LIBRARY_IMPL(ptqx, CPU, m) {
  m.impl("add", add_cpu);
  m.impl("mul", mul_cpu);
  m.impl("cat", cat_cpu);
  m.impl("lookup", lookup_cpu);
}
TORCH_LIBRARY_IMPL(ptqx, Autograd, m) {
  m.impl("add", no_derivative());
  m.impl("mul", no_derivative());
  m.impl("cat", no_derivative());
  m.impl("lookup", no_derivative());
}

}  // namespace ptqx::ops
