// layer_norm.

#include "engine/node_reader.h"

namespace ptqx::engine {

Operation read_layer_norm(NodeReader& reader) {
  reader.require(reader.input().is_float, "takes float32");
  const Value& x = reader.input();
  Value& y = reader.output();
  y.spatial = x.spatial;
  y.c = x.c;
  y.h = x.h;
  y.w = x.w;
  LayerNorm norm;
  reader.tensor("weight", DType::kF32, {x.c});
  norm.weight = reader.finite_f32("weight", x.c);
  reader.tensor("bias", DType::kF32, {x.c});
  norm.bias = reader.finite_f32("bias", x.c);
  norm.eps = reader.positive("eps");
  return norm;
}

}  // namespace ptqx::engine
