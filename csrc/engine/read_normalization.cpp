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
  reader.require(reader.input().is_float && reader.output().is_float, "takes float32 and gives float32");
  reader.require(!reader.input().spatial, "the input must have the shape [classes]");
  reader.output().take_shape(reader.input());
  return Softmax{reader.boolean_or("log", false)};
}

}  // namespace ptqx::engine
