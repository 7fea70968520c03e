// quantize, dequantize, add, mul, activation, lookup.

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "engine/node_reader.h"

namespace ptqx::engine {
namespace {

ActivationSpec pointwise_activation(NodeReader& reader) {
  ActivationSpec activation = reader.activation();
  reader.require(activation.args.kind != kernels::Activation::kPrelu,
                 "activation prelu is only for conv2d and linear");
  return activation;
}

struct FunctionRow {
  const char* name;
  kernels::RealFunction function;
  bool with_number = false;
};
constexpr FunctionRow kFunctions[] = {
    {"sigmoid", kernels::RealFunction::kSigmoid},
    {"silu", kernels::RealFunction::kSilu},
    {"tanh", kernels::RealFunction::kTanh},
    {"gelu", kernels::RealFunction::kGelu},
    {"gelu_tanh", kernels::RealFunction::kGeluTanh},
    {"square", kernels::RealFunction::kSquare},
    {"add_scalar", kernels::RealFunction::kAdd, true},
    {"mul_scalar", kernels::RealFunction::kMultiply, true},
    {"subtract_from", kernels::RealFunction::kSubtractFrom, true},
    {"divide_by_scalar", kernels::RealFunction::kDivide, true},
};

ApplyFunction apply_function(NodeReader& reader, const FunctionRow& row) {
  const std::vector<double> numbers = reader.reals_or_none("activation_args", row.with_number ? 1 : 0);
  const double number = row.with_number ? numbers[0] : 0.0;
  reader.require(row.function != kernels::RealFunction::kDivide || number != 0.0,
                 "activation divide_by_scalar needs a number other than 0");
  return {row.function, number};
}

}  // namespace

Operation read_quantize(NodeReader& reader) {
  reader.require(reader.input().is_float && !reader.output().is_float, "takes float32 and gives uint8");
  reader.output().take_shape(reader.input());
  return Quantize{};
}

Operation read_dequantize(NodeReader& reader) {
  reader.require(!reader.input().is_float && reader.output().is_float, "takes uint8 and gives float32");
  reader.output().take_shape(reader.input());
  return Dequantize{};
}

Operation read_add(NodeReader& reader) {
  reader.require_one_dtype();
  reader.require(reader.input(0).same_shape(reader.input(1)), "the inputs must have one shape");
  reader.output().take_shape(reader.input());
  for (size_t i = 0; i < 2; ++i) {
    reader.require(std::isfinite(reader.input(i).scale / reader.output().scale),
                   "input scale / output scale overflows float32");
  }
  return Add{pointwise_activation(reader)};
}

Operation read_add_fixed_point(NodeReader& reader) {
  auto add = std::get<Add>(read_add(reader));
  add.fixed_point = reader.fixed_point(2, 1);
  return add;
}

Operation read_mul(NodeReader& reader) {
  reader.require_one_dtype();
  const Value& a = reader.input(0);
  const Value& b = reader.input(1);
  const bool per_channel = a.spatial && b.spatial && a.c == b.c && (a.pixels() == 1 || b.pixels() == 1);
  const bool per_pixel = a.spatial && b.spatial && a.h == b.h && a.w == b.w && (a.c == 1 || b.c == 1);
  reader.require(a.same_shape(b) || per_channel || per_pixel,
                 "the inputs must have one shape, or one of them [channels, 1, 1] or [1, height, width]");
  reader.output().take_shape(a.size() >= b.size() ? a : b);
  reader.require(std::isfinite(a.scale * b.scale / reader.output().scale),
                 "input scales / output scale overflow float32");
  return Mul{pointwise_activation(reader)};
}

Operation read_mul_fixed_point(NodeReader& reader) {
  auto mul = std::get<Mul>(read_mul(reader));
  mul.fixed_point = reader.fixed_point(1, 1);
  return mul;
}

Operation read_activation(NodeReader& reader) {
  reader.require(reader.input().is_float && reader.output().is_float, "takes float32 and gives float32");
  reader.output().take_shape(reader.input());
  const std::string name = reader.text_or("activation", "none");
  for (const FunctionRow& row : kFunctions) {
    if (name == row.name) return apply_function(reader, row);
  }
  return Activate{reader.activation()};
}

Operation read_lookup(NodeReader& reader) {
  reader.require_codes(0);
  reader.require(!reader.output().is_float, "takes uint8 and gives uint8");
  const Value& x = reader.input();
  const Value& y = reader.output();
  reader.output().take_shape(x);
  Lookup lookup;
  std::memcpy(lookup.table.data(), reader.tensor("table", DType::kU8, {256}).data.data(),
              lookup.table.size());
  for (int32_t code = x.qmin; code <= x.qmax; ++code) {
    const int32_t to = lookup.table[static_cast<size_t>(code)];
    reader.require(y.qmin <= to && to <= y.qmax, "table holds a code outside the output's qmin..qmax");
  }
  return lookup;
}

}  // namespace ptqx::engine
