#include "ops/checks.h"

#include <cmath>
#include <limits>

#include "kernels/arith.h"

namespace ptqx::ops {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) {
    if (i > 0) text += i + 1 == names.size() ? " or " : ", ";
    text += names[i];
  }
  return text;
}

bool fit_a_code_type(int64_t qmin, int64_t qmax) {
  return qmin >= 0 ? qmax <= 255 : qmin >= -128 && qmax <= 127;
}

/// As Python has it: float32, uint8.
std::string dtype_name(at::ScalarType type) { return std::string(c10::getDtypeNames(type).first); }

struct ActivationName {
  const char* name;
  kernels::Activation kind;
  size_t args;
  const char* meaning;
};
constexpr ActivationName kActivations[] = {
    {"none", kernels::Activation::kNone, 0, "[]"},
    {"clip", kernels::Activation::kClip, 2, "[low, high]"},
    {"leaky_relu", kernels::Activation::kLeakyRelu, 1, "[slope]"},
    {"prelu", kernels::Activation::kPrelu, 0, "[]"},
    {"hardsigmoid", kernels::Activation::kHardsigmoid, 3, "[slope, offset, high]"},
    {"hardswish", kernels::Activation::kHardswish, 1, "[slope]"},
};

const ActivationName& find_activation(c10::string_view name) {
  std::vector<std::string> known;
  for (const ActivationName& row : kActivations) {
    if (name == row.name) return row;
    known.emplace_back(row.name);
  }
  TORCH_CHECK_VALUE(false, "activation must be ", joined(known), ", got '", name, "'");
}

}  // namespace

void check_dtype(const Tensor& tensor, const char* name, std::initializer_list<at::ScalarType> allowed) {
  for (const at::ScalarType type : allowed) {
    if (tensor.scalar_type() == type) return;
  }
  std::vector<std::string> names;
  for (const at::ScalarType type : allowed) names.push_back(dtype_name(type));
  TORCH_CHECK_VALUE(false, name, " must be ", joined(names), ", got ", dtype_name(tensor.scalar_type()));
}

void check_codes(const Tensor& tensor, const char* name) {
  check_dtype(tensor, name, {at::kByte, at::kChar});
}

void check_real(const Tensor& tensor, const char* name) {
  check_dtype(tensor, name, {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble});
}

void check_dim(const Tensor& tensor, const char* name, int64_t dim) {
  TORCH_CHECK_VALUE(tensor.dim() == dim, name, " must have ", dim, " dimensions, got shape ",
                    tensor.sym_sizes());
}

void check_ints(at::IntArrayRef value, const char* name, size_t count, int64_t minimum) {
  TORCH_CHECK_VALUE(value.size() == count, name, " must have ", count, " entries, got ", value);
  for (const int64_t entry : value) {
    TORCH_CHECK_VALUE(entry >= minimum, name, " must be at least ", minimum, ", got ", value);
  }
}

void check_of_channels(const Tensor& tensor, const char* name, const c10::SymInt& channels) {
  TORCH_CHECK_VALUE(tensor.sym_numel() == 1 || tensor.sym_numel() == channels, name, " must have 1 or ",
                    channels, " elements, got shape ", tensor.sym_sizes());
}

void check_bias(const std::optional<Tensor>& bias, const c10::SymInt& channels,
                std::initializer_list<at::ScalarType> allowed) {
  if (!bias) return;
  check_dtype(*bias, "bias", allowed);
  TORCH_CHECK_VALUE(bias->dim() == 1 && bias->sym_size(0) == channels, "bias must have shape [", channels,
                    "], got ", bias->sym_sizes());
}

void check_range(int64_t qmin, int64_t qmax) {
  TORCH_CHECK_VALUE(fit_a_code_type(qmin, qmax) && qmin < qmax,
                    "qmin and qmax must satisfy 0 <= qmin < qmax <= 255 or ",
                    "-128 <= qmin < qmax <= 127, got qmin ", qmin, " and qmax ", qmax);
}

void check_bounds(int64_t qmin, int64_t qmax) {
  TORCH_CHECK_VALUE(fit_a_code_type(qmin, qmax) && qmin <= qmax,
                    "qmin and qmax must satisfy 0 <= qmin <= qmax <= 255 or ",
                    "-128 <= qmin <= qmax <= 127, got qmin ", qmin, " and qmax ", qmax);
}

at::ScalarType code_type(int64_t qmin) { return qmin >= 0 ? at::kByte : at::kChar; }

void check_one_zero_point(const Tensor& zero_point, const std::string& name) {
  check_dtype(zero_point, name.c_str(), {at::kInt});
  TORCH_CHECK_VALUE(zero_point.sym_numel() == 1, name, " must have one element, got shape ",
                    zero_point.sym_sizes());
}

void check_per_tensor(const Tensor& scale, const Tensor& zero_point, const std::string& name) {
  check_dtype(scale, (name + "scale").c_str(), {at::kFloat});
  TORCH_CHECK_VALUE(scale.sym_numel() == 1, name, "scale must have one element, got shape ",
                    scale.sym_sizes());
  check_one_zero_point(zero_point, name + "zero_point");
}

void check_scale_values(const Tensor& scale, const std::string& name) {
  const Tensor dense = scale.contiguous();
  const float* values = dense.const_data_ptr<float>();
  for (int64_t i = 0; i < dense.numel(); ++i) {
    TORCH_CHECK_VALUE(std::isfinite(values[i]) && values[i] > 0, name, " must be finite and positive, got ",
                      values[i], " at index ", i);
  }
}

void check_zero_point_values(const Tensor& zero_point, const std::string& name, at::ScalarType type) {
  // Codes of int32 are accumulators or biases; the kernels need |zero_point| <= 2^23.
  const int64_t low = type == at::kByte ? 0 : type == at::kChar ? -128 : -(1 << 23);
  const int64_t high = type == at::kByte ? 255 : type == at::kChar ? 127 : 1 << 23;
  const Tensor dense = zero_point.contiguous();
  const int32_t* values = dense.const_data_ptr<int32_t>();
  for (int64_t i = 0; i < dense.numel(); ++i) {
    TORCH_CHECK_VALUE(low <= values[i] && values[i] <= high, name, " must lie in ", low, "..", high, ", got ",
                      values[i], " at index ", i);
  }
}

kernels::QParams per_tensor_qparams(const Tensor& scale, const Tensor& zero_point, const std::string& name,
                                    at::ScalarType type) {
  check_per_tensor(scale, zero_point, name);
  check_scale_values(scale, name + "scale");
  check_zero_point_values(zero_point, name + "zero_point", type);
  return {.scale = *scale.const_data_ptr<float>(), .zero_point = *zero_point.const_data_ptr<int32_t>()};
}

kernels::ActivationArgs parse_activation(c10::string_view name, at::ArrayRef<double> args,
                                         const std::optional<Tensor>& slopes, int64_t channels,
                                         std::vector<float>& slopes_storage) {
  const ActivationName& row = find_activation(name);
  TORCH_CHECK_VALUE(args.size() == row.args, "activation_args of ", row.name, " must be ", row.meaning,
                    ", got ", args);
  for (const double arg : args) {
    TORCH_CHECK_VALUE(!std::isnan(arg), "activation_args must not be NaN, got ", args);
  }
  TORCH_CHECK_VALUE(slopes.has_value() == (row.kind == kernels::Activation::kPrelu),
                    "slopes must be given for prelu and for nothing else, got activation '", name, "' ",
                    slopes.has_value() ? "with" : "without", " slopes");

  kernels::ActivationArgs result{.kind = row.kind};
  // What is beyond float32 is infinite: exported programs may hold no infinities, but any finite double.
  const auto arg = [&](size_t index) {
    constexpr double kLargest = std::numeric_limits<float>::max();
    if (std::abs(args[index]) <= kLargest) return static_cast<float>(args[index]);
    return args[index] > 0 ? kInfinity : -kInfinity;
  };
  switch (row.kind) {
    case kernels::Activation::kNone:
      break;
    case kernels::Activation::kClip:
      result.low = arg(0);
      result.high = arg(1);
      TORCH_CHECK_VALUE(result.low <= result.high, "activation_args of clip must have low <= high, got ",
                        args);
      break;
    case kernels::Activation::kLeakyRelu:
    case kernels::Activation::kHardswish:
      result.slope = arg(0);
      break;
    case kernels::Activation::kHardsigmoid:
      result.slope = arg(0);
      result.offset = arg(1);
      result.high = arg(2);
      break;
    case kernels::Activation::kPrelu: {
      check_dtype(*slopes, "slopes", {at::kFloat});
      check_of_channels(*slopes, "slopes", channels);
      const Tensor dense = slopes->contiguous();
      const float* values = dense.const_data_ptr<float>();
      slopes_storage.assign(static_cast<size_t>(channels), values[0]);
      if (dense.numel() > 1) slopes_storage.assign(values, values + channels);
      result.slopes = slopes_storage.data();
      break;
    }
  }
  return result;
}

void check_shift_values(const Tensor& shift) {
  const Tensor values = shift.contiguous();
  const auto* places = values.const_data_ptr<int32_t>();
  for (int64_t i = 0; i < values.numel(); ++i) {
    TORCH_CHECK_VALUE(0 <= places[i] && places[i] <= kernels::kMostPlaces, "shift must be in 0..",
                      kernels::kMostPlaces, ", got ", places[i]);
  }
}

}  // namespace ptqx::ops
