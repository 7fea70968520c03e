#pragma once

// What every operator asks of its arguments, in one voice: the argument's name, what was expected,
// what came. A violation is c10::ValueError, ValueError in Python.

#include <ATen/core/Tensor.h>

#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "kernels/types.h"

namespace ptqx::ops {

using at::Tensor;

void check_dtype(const Tensor& tensor, const char* name, std::initializer_list<at::ScalarType> allowed);
void check_codes(const Tensor& tensor, const char* name);  // uint8 or int8
void check_real(const Tensor& tensor, const char* name);   // float32, bfloat16, float16 or float64
void check_dim(const Tensor& tensor, const char* name, int64_t dim);
/// One element for all channels, or one each.
void check_of_channels(const Tensor& tensor, const char* name, const c10::SymInt& channels);
/// Absent, or [channels].
void check_bias(const std::optional<Tensor>& bias, const c10::SymInt& channels,
                std::initializer_list<at::ScalarType> allowed);
/// `value` (one number is enough: [2] means the same for both) has `count` entries, each >= minimum.
void check_ints(at::IntArrayRef value, const char* name, size_t count, int64_t minimum);

/// qmin < qmax within 0..255, or within -128..127 if qmin is negative.
void check_range(int64_t qmin, int64_t qmax);
/// The same, but one code is a range too.
void check_bounds(int64_t qmin, int64_t qmax);
/// uint8 if and only if qmin >= 0.
at::ScalarType code_type(int64_t qmin);

/// One int32 zero point.
void check_one_zero_point(const Tensor& zero_point, const std::string& name);
/// One scale, float32, and its int32 zero point: what Meta can see.
void check_per_tensor(const Tensor& scale, const Tensor& zero_point, const std::string& name);

/// `scale` is finite and positive, everywhere.
void check_scale_values(const Tensor& scale, const std::string& name);
/// Zero points of codes of `type` are codes themselves.
void check_zero_point_values(const Tensor& zero_point, const std::string& name, at::ScalarType type);

/// Places of a shift that kernels take.
void check_shift_values(const Tensor& shift);

/// Reads one scale and zero point of codes of `type`. `name` is "input_" for input_scale and
/// input_zero_point, and so on.
kernels::QParams per_tensor_qparams(const Tensor& scale, const Tensor& zero_point, const std::string& name,
                                    at::ScalarType type);

/// The activation of that name; `slopes` is prelu's, float32 [1] or [channels], and must outlive the result.
kernels::ActivationArgs parse_activation(c10::string_view name, at::ArrayRef<double> args,
                                         const std::optional<Tensor>& slopes, int64_t channels,
                                         std::vector<float>& slopes_storage);

}  // namespace ptqx::ops
