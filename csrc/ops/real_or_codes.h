#pragma once

// What layer_norm, group_norm, softmax and matmul share: real values that may become codes; and the first
// two, a number a channel.

#include <optional>

#include "kernels/types.h"
#include "ops/layout.h"

namespace ptqx::ops {

/// Where codes go; without a scale the results stay real values.
struct RealOrCodes {
  const std::optional<Tensor>& scale;
  const std::optional<Tensor>& zero_point;
  int64_t qmin, qmax;
};

/// Checks the qparams, and makes the output.
Tensor real_or_codes(c10::SymIntArrayRef sizes, const Tensor& like, const RealOrCodes& output);

/// Checks parameters and qparams against `input`, channels in dimension 1, and makes the output.
Tensor norm_output(const Tensor& input, const Tensor& weight, const Tensor& bias, double eps,
                   const RealOrCodes& output);

/// The qparams and the range of uint8 codes that finish_codes makes those of the output's type.
struct OutputCodes {
  kernels::QParams qparams;
  int32_t qmin = 0, qmax = 255;
};

/// None for real values.
std::optional<OutputCodes> output_codes(const RealOrCodes& output, at::ScalarType type);

}  // namespace ptqx::ops
