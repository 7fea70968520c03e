// matmul.

#include <cmath>

#include "engine/node_reader.h"
#include "engine/row_product.h"

namespace ptqx::engine {

Operation read_matmul(NodeReader& reader) {
  for (size_t i = 0; i < 2; ++i) {
    reader.require_codes(i);
    reader.require(reader.input(i).spatial && !reader.input(i).sequence,
                   "the inputs must have the shape [channels, height, width]");
  }
  const Value& a = reader.input(0);
  const Value& b = reader.input(1);
  reader.require(a.c == b.c && a.h == b.h, "the inputs must have one number of channels, and of rows");
  reader.require(a.c <= kMostProductDepth, "an accumulator could overflow: too many channels");
  Value& y = reader.output();
  y.take_shape(a);
  y.c = b.w;
  const auto factor = static_cast<float>(reader.positive("factor"));
  const float multiplier = a.scale * b.scale * factor / y.scale;
  reader.require(std::isfinite(multiplier), "input scales * factor / output scale overflow float32");
  return Matmul{multiplier};
}

}  // namespace ptqx::engine
