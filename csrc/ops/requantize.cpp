// requantize: whole numbers to codes without floats, by multipliers and a shift that rounds half to even.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "kernels/fixed_point.h"
#include "kernels/pointwise.h"
#include "ops/checks.h"
#include "ops/layout.h"
#include "ops/registration.h"

namespace ptqx::ops {
namespace {

// ---- shape ----

/// Of images dimension 1, else the last.
c10::SymInt channels_of(const Tensor& term) {
  if (term.dim() == 0) return 1;
  return term.sym_size(term.dim() == 4 ? 1 : -1);
}

void check_code_range(at::ScalarType dtype, int64_t qmin, int64_t qmax) {
  TORCH_CHECK_VALUE(dtype == at::kByte || dtype == at::kChar || dtype == at::kShort,
                    "dtype must be uint8, int8 or int16, got ", dtype);
  const int64_t bits = dtype == at::kShort ? 16 : 8;
  const int64_t least = dtype == at::kByte ? 0 : -(int64_t{1} << (bits - 1));
  const int64_t most = least + (int64_t{1} << bits) - 1;
  TORCH_CHECK_VALUE(least <= qmin && qmin <= qmax && qmax <= most, "qmin and qmax must be in order and in ",
                    least, "..", most, ", got ", qmin, " and ", qmax);
}

void check_terms(at::TensorList terms) {
  TORCH_CHECK_VALUE(!terms.empty(), "terms must hold at least one tensor");
  for (const Tensor& term : terms) {
    check_dtype(term, "terms", {at::kByte, at::kChar, at::kShort, at::kInt, at::kLong});
    TORCH_CHECK_VALUE(term.sym_sizes() == terms[0].sym_sizes(), "terms must have one shape, got ",
                      terms[0].sym_sizes(), " and ", term.sym_sizes());
  }
}

Tensor requantize_meta(at::TensorList terms, at::TensorList offsets, const Tensor& multiplier,
                       const Tensor& shift, const Tensor& zero_point, int64_t qmin, int64_t qmax,
                       at::ScalarType dtype) {
  check_terms(terms);
  check_code_range(dtype, qmin, qmax);
  const c10::SymInt channels = channels_of(terms[0]);
  const auto count = static_cast<int64_t>(terms.size());
  check_dtype(multiplier, "multiplier", {at::kInt});
  TORCH_CHECK_VALUE(multiplier.dim() == 2 && multiplier.sym_size(0) == count &&
                        (multiplier.sym_size(1) == 1 || multiplier.sym_size(1) == channels),
                    "multiplier must have shape [", count, ", 1] or [", count, ", ", channels, "], got ",
                    multiplier.sym_sizes());
  check_dtype(shift, "shift", {at::kInt});
  check_of_channels(shift, "shift", channels);
  check_one_zero_point(zero_point, "zero_point");
  TORCH_CHECK_VALUE(offsets.empty() || offsets.size() == terms.size(),
                    "offsets must hold one tensor for each of ", count, " terms or none, got ",
                    offsets.size());
  for (const Tensor& offset : offsets) {
    check_dtype(offset, "offsets", {at::kInt, at::kLong});
    check_of_channels(offset, "offsets", channels);
  }
  return empty_spatial(terms[0].sym_sizes(), terms[0], dtype);
}

// ---- CPU ----

constexpr int64_t kPeriod = 1024;  // elements at a time, about
constexpr int64_t kGrain = 16384;  // elements: tens of microseconds

/// One number for each element of a period: [1] or [channels], again and again.
std::vector<int64_t> periodic(const Tensor& tensor, int64_t period) {
  const Tensor values = tensor.to(at::kLong).contiguous();
  const int64_t count = values.numel();
  std::vector<int64_t> result(static_cast<size_t>(period));
  for (auto at = result.begin(); at != result.end(); at += count) {
    std::copy_n(values.const_data_ptr<int64_t>(), count, at);
  }
  return result;
}

/// Of what check_terms() and check_code_range() let through.
kernels::Integer integer_of(at::ScalarType dtype) {
  switch (dtype) {
    case at::kByte:
      return kernels::Integer::kU8;
    case at::kChar:
      return kernels::Integer::kS8;
    case at::kShort:
      return kernels::Integer::kS16;
    case at::kInt:
      return kernels::Integer::kS32;
    default:
      return kernels::Integer::kS64;
  }
}

/// A term as the kernels take it.
class Term {
 public:
  Term(const Tensor& values, const Tensor* offset, const Tensor& multiplier, int64_t period)
      : values_(dense_spatial(values)),
        offset_(offset == nullptr ? std::vector<int64_t>(static_cast<size_t>(period), 0)
                                  : periodic(*offset, period)),
        multiplier_(periodic(multiplier, period)) {}

  /// From element `first` on, where a period begins.
  kernels::FixedPointTerm from(int64_t first) const {
    const auto* bytes = static_cast<const char*>(values_.const_data_ptr());
    return {.values = bytes + first * values_.itemsize(),
            .type = integer_of(values_.scalar_type()),
            .offset = offset_.data(),
            .multiplier = multiplier_.data()};
  }

 private:
  Tensor values_;
  std::vector<int64_t> offset_, multiplier_;
};

struct CodeRange {
  int64_t zero_point, low, high;
};

void requantize_into(const std::vector<Term>& terms, const std::vector<int64_t>& shift, CodeRange range,
                     const Tensor& output) {
  kernels::FixedPointFn* const kernel = kernels::best_row(kernels::fixed_point_rows()).function;
  auto* y = static_cast<char*>(output.mutable_data_ptr());
  const int64_t itemsize = static_cast<int64_t>(output.itemsize());
  const auto period = static_cast<int64_t>(shift.size());
  const int64_t elements = output.numel();
  const int64_t grain = std::max<int64_t>(kGrain / period, 1);
  at::parallel_for(0, (elements + period - 1) / period, grain, [&](int64_t begin, int64_t end) {
    std::vector<kernels::FixedPointTerm> parts(terms.size());
    for (int64_t first = begin * period; first < std::min(end * period, elements); first += period) {
      for (size_t i = 0; i < terms.size(); ++i) parts[i] = terms[i].from(first);
      kernel({.terms = parts,
              .shift = shift.data(),
              .count = std::min(period, elements - first),
              .zero_point = range.zero_point,
              .low = range.low,
              .high = range.high,
              .codes = y + first * itemsize,
              .type = integer_of(output.scalar_type())});
    }
  });
}

/// The arguments of the kernel for sums of two tensors of codes with one zero point each, if this is one.
std::optional<kernels::AddFixedPointArgs> as_sum_of_codes(at::TensorList terms, at::TensorList offsets,
                                                          const Tensor& multiplier, const Tensor& shift,
                                                          CodeRange range, at::ScalarType dtype) {
  const auto is_codes = [](const Tensor& term) { return term.scalar_type() == at::kByte; };
  if (terms.size() != 2 || offsets.size() != 2 || dtype != at::kByte) return std::nullopt;
  if (!is_codes(terms[0]) || !is_codes(terms[1])) return std::nullopt;
  for (const Tensor& constant : {offsets[0], offsets[1], shift}) {
    if (constant.numel() != 1) return std::nullopt;
  }
  if (multiplier.numel() != 2) return std::nullopt;
  const int64_t a = -offsets[0].item<int64_t>(), b = -offsets[1].item<int64_t>();
  if (std::min(a, b) < 0 || std::max(a, b) > 255) return std::nullopt;
  return kernels::AddFixedPointArgs{.a_zero_point = static_cast<int32_t>(a),
                                    .a_multiplier = multiplier[0][0].item<int32_t>(),
                                    .b_zero_point = static_cast<int32_t>(b),
                                    .b_multiplier = multiplier[1][0].item<int32_t>(),
                                    .shift = shift.item<int32_t>(),
                                    .output_zero_point = static_cast<int32_t>(range.zero_point),
                                    .qmin = static_cast<int32_t>(range.low),
                                    .qmax = static_cast<int32_t>(range.high)};
}

void add_codes_into(at::TensorList terms, const kernels::AddFixedPointArgs& args, const Tensor& output) {
  const Tensor left = dense_spatial(terms[0]), right = dense_spatial(terms[1]);
  const auto* a = left.const_data_ptr<uint8_t>();
  const auto* b = right.const_data_ptr<uint8_t>();
  auto* y = output.mutable_data_ptr<uint8_t>();
  at::parallel_for(0, output.numel(), kGrain, [&](int64_t begin, int64_t end) {
    kernels::add_fixed_point_u8(a + begin, b + begin, end - begin, args, y + begin);
  });
}

Tensor requantize_cpu(at::TensorList terms, at::TensorList offsets, const Tensor& multiplier,
                      const Tensor& shift, const Tensor& zero_point, int64_t qmin, int64_t qmax,
                      at::ScalarType dtype) {
  Tensor output = requantize_meta(terms, offsets, multiplier, shift, zero_point, qmin, qmax, dtype);
  check_shift_values(shift);
  if (output.numel() == 0) return output;
  const CodeRange range{.zero_point = zero_point.item<int32_t>(), .low = qmin, .high = qmax};
  if (const auto sum = as_sum_of_codes(terms, offsets, multiplier, shift, range, dtype)) {
    add_codes_into(terms, *sum, output);
    return output;
  }
  const int64_t channels = channels_of(terms[0]).expect_int();
  const int64_t period = channels * std::max<int64_t>(kPeriod / channels, 1);
  std::vector<Term> parts;
  for (size_t i = 0; i < terms.size(); ++i) {
    const Tensor own = multiplier.select(0, static_cast<int64_t>(i));
    parts.emplace_back(terms[i], offsets.empty() ? nullptr : &offsets[i], own, period);
  }
  const std::vector<int64_t> places = periodic(shift, period);
  requantize_into(parts, places, range, output);
  return output;
}

}  // namespace

// clamp(round(sum of (terms + offsets) * multiplier / 2**shift) + zero_point, qmin, qmax) as `dtype`.
TORCH_LIBRARY_FRAGMENT(ptqx, m) {
  m.def(
      "requantize(Tensor[] terms, Tensor[] offsets, Tensor multiplier, Tensor shift, Tensor zero_point, "
      "int qmin, int qmax, ScalarType dtype) -> Tensor",
      kAnyStrides);
}
TORCH_LIBRARY_IMPL(ptqx, Meta, m) { m.impl("requantize", requantize_meta); }
TORCH_LIBRARY_IMPL(ptqx, CPU, m) { m.impl("requantize", requantize_cpu); }
TORCH_LIBRARY_IMPL(ptqx, Autograd, m) { m.impl("requantize", no_derivative()); }

}  // namespace ptqx::ops
