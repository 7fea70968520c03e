// layer_norm, group_norm, softmax.

#include "engine/node_reader.h"

namespace ptqx::engine {

namespace {

template <class Norm>
Norm read_norm(NodeReader& reader) {
  reader.require(reader.input().is_float, "takes float32");
  const Value& x = reader.input();
  reader.output().take_shape(x);
  Norm norm;
  reader.tensor("weight", DType::kF32, {x.c});
  norm.weight = reader.finite_f32("weight", x.c);
  reader.tensor("bias", DType::kF32, {x.c});
  norm.bias = reader.finite_f32("bias", x.c);
  norm.eps = reader.positive("eps");
  return norm;
}

}  // namespace

Operation read_layer_norm(NodeReader& reader) { return read_norm<LayerNorm>(reader); }

Operation read_group_norm(NodeReader& reader) {
  reader.require_spatial();
  auto norm = read_norm<GroupNorm>(reader);
  norm.groups = reader.integer("groups", 1, reader.input().c);
  reader.require(reader.input().c % norm.groups == 0, "groups must divide the channels");
  return norm;
}

Operation read_softmax(NodeReader& reader) {
  reader.require(reader.input().is_float, "takes float32");
  const bool log = reader.boolean_or("log", false);
  reader.require(reader.output().is_float || !log, "its logarithm is float32");
  reader.output().take_shape(reader.input());
  return Softmax{log};
}

}  // namespace ptqx::engine
