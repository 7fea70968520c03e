#pragma once

// What layer_norm and group_norm share: a number a channel, and real values that may become codes.

#include <optional>

#include "kernels/types.h"
#include "ops/layout.h"

namespace ptqx::ops {

/// Where codes go; without a scale the results stay real values.
struct NormOutput {
  const std::optional<Tensor>& scale;
  const std::optional<Tensor>& zero_point;
  int64_t qmin, qmax;
};

/// Checks parameters and qparams against `input`, channels in dimension 1, and makes the output.
Tensor norm_output(const Tensor& input, const Tensor& weight, const Tensor& bias, double eps,
                   const NormOutput& output);

/// The qparams and the range of uint8 codes that finish_codes makes those of the output's type.
struct NormCodes {
  kernels::QParams qparams;
  int32_t qmin = 0, qmax = 255;
};

/// None for real values.
std::optional<NormCodes> norm_codes(const NormOutput& output, at::ScalarType type);

}  // namespace ptqx::ops
