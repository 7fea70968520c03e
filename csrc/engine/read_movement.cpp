// constant, and nodes that move codes and keep the scale: cat, flatten, reshape, permute, slice,
// channel_shuffle, pad, pixel_shuffle, pixel_unshuffle, upsample_nearest2d, upsample_zeros2d,
// upsample_bilinear2d.

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "engine/node_reader.h"

namespace ptqx::engine {

Operation read_constant(NodeReader& reader) {
  reader.require(reader.output().is_float, "gives float32");
  const std::vector<int64_t> shape = reader.tensor_shape("values");
  reader.require(1 <= shape.size() && shape.size() <= 3, "values must have one to three dimensions");
  Value& y = reader.output();
  set_shape(y, shape);
  const auto planar = elements<float>(reader.tensor("values", DType::kF32, shape));
  reader.require(std::all_of(planar.begin(), planar.end(), [](float value) { return std::isfinite(value); }),
                 "values must be finite");
  Constant constant{std::vector<float>(planar.size())};
  for (int64_t c = 0; c < y.c; ++c) {
    for (int64_t pixel = 0; pixel < y.pixels(); ++pixel) {
      constant.values[static_cast<size_t>(pixel * y.c + c)] =
          planar[static_cast<size_t>(c * y.pixels() + pixel)];
    }
  }
  return constant;
}

Operation read_cat(NodeReader& reader) {
  const Value& first = reader.input();
  const int64_t rank = !first.spatial ? 1 : first.sequence ? 2 : 3;
  const int64_t dim = reader.integer_or("dim", 1, 1, rank);
  const size_t axis = dim == rank && first.spatial ? 2 : static_cast<size_t>(dim - 1);
  Value& y = reader.output();
  y.take_shape(first);
  const auto extents = [](Value& value) { return std::array<int64_t*, 3>{&value.c, &value.h, &value.w}; };
  *extents(y)[axis] = 0;
  for (size_t i = 0; i < reader.inputs(); ++i) {
    reader.require_moved_codes(i);
    Value x = reader.input(i);
    const int64_t length = *extents(x)[axis];
    *extents(x)[axis] = *extents(y)[axis];
    reader.require(x.same_shape(y), "the inputs must agree in every extent but that of dim");
    *extents(y)[axis] += length;
  }
  return Cat{axis};
}

Operation read_flatten(NodeReader& reader) {
  reader.require_moved_codes();
  reader.integer_or("start_dim", 1, 1, 1);
  reader.output().c = reader.input().size();
  return Flatten{};
}

Operation read_reshape(NodeReader& reader) {
  reader.require_moved_codes();
  const auto shape = reader.some_integers("sample_shape", 3, 1, reader.input().size());
  set_shape(reader.output(), shape);
  // Extent by extent, because the product of hostile ones could overflow.
  int64_t left = reader.input().size();
  for (const int64_t extent : shape) left = left % extent == 0 ? left / extent : 0;
  reader.require(left == 1, "sample_shape must have as many elements as the input");
  return Reshape{};
}

Operation read_permute(NodeReader& reader) {
  reader.require_moved_codes();
  reader.require_spatial();
  const Value& x = reader.input();
  const size_t rank = x.sequence ? 3 : 4;
  auto dims = reader.integers("dims", rank, 0, static_cast<int64_t>(rank) - 1);
  if (x.sequence) {  // [c][w], of which h is no axis
    for (int64_t& dim : dims) dim += dim == 2 ? 1 : 0;
    dims.insert(dims.begin() + 2, 2);
  }
  const std::array<int64_t, 3> extents = {x.c, x.h, x.w};
  std::array<bool, 3> seen = {};
  Permute permute;
  for (size_t i = 0; i < 3; ++i) {
    reader.require(dims[i + 1] > 0, "dims must leave the batch first");
    permute.axes[i] = static_cast<size_t>(dims[i + 1] - 1);
    seen[permute.axes[i]] = true;
  }
  reader.require(dims[0] == 0 && seen[0] && seen[1] && seen[2], "dims must name every axis once");
  Value& y = reader.output();
  y.spatial = true;
  y.sequence = x.sequence;
  y.c = extents[permute.axes[0]];
  y.h = extents[permute.axes[1]];
  y.w = extents[permute.axes[2]];
  return permute;
}

Operation read_slice(NodeReader& reader) {
  reader.require_moved_codes();
  reader.integer_or("dim", 1, 1, 1);
  const Value& x = reader.input();
  const int64_t start = reader.integer("start", 0, x.c - 1);
  const int64_t end = reader.integer("end", start + 1, x.c);
  reader.output().take_shape(x);
  reader.output().c = end - start;
  return Slice{start};
}

Operation read_channel_shuffle(NodeReader& reader) {
  reader.require_moved_codes();
  reader.require_spatial();
  const Value& x = reader.input();
  const int64_t groups = reader.integer("groups", 1, x.c);
  reader.require(x.c % groups == 0, "groups must divide the channels");
  reader.output().take_shape(x);
  return ChannelShuffle{groups};
}

PadMode pad_mode(NodeReader& reader) {
  const std::string mode = reader.text_or("mode", "constant");
  if (mode == "constant") return PadMode::kConstant;
  if (mode == "reflect") return PadMode::kReflect;
  if (mode == "replicate") return PadMode::kReplicate;
  reader.require(mode == "circular", "mode must be constant, reflect, replicate or circular");
  return PadMode::kCircular;
}

Operation read_pad(NodeReader& reader) {
  reader.require_moved_codes();
  reader.require_spatial();
  const auto padding = reader.integers("padding", 4, 1 - kMaxExtent, kMaxExtent - 1);
  const Value& x = reader.input();
  const auto left_after = [](int64_t size, int64_t before, int64_t after) {
    return size + std::min(before, int64_t{0}) + std::min(after, int64_t{0});
  };
  reader.require(left_after(x.h, padding[0], padding[2]) >= 1 && left_after(x.w, padding[1], padding[3]) >= 1,
                 "negative padding must leave a row and a column of the input");
  const PadMode mode = pad_mode(reader);
  if (mode != PadMode::kConstant) {
    const int64_t edge = mode == PadMode::kReflect ? 1 : 0;  // what is not repeated
    const auto fits = [&](int64_t size, int64_t before, int64_t after) {
      const int64_t most = mode == PadMode::kReplicate ? kMaxExtent : size - edge;
      return before >= 0 && after >= 0 && before <= most && after <= most;
    };
    reader.require(fits(x.h, padding[0], padding[2]) && fits(x.w, padding[1], padding[3]),
                   "padding that is taken from the image must not be negative, nor larger than the image");
  }
  Value& y = reader.output();
  y.spatial = true;
  y.c = x.c;
  y.h = x.h + padding[0] + padding[2];
  y.w = x.w + padding[1] + padding[3];
  return Pad{padding[0], padding[1], mode};
}

Operation read_pixel_shuffle(NodeReader& reader) {
  reader.require_moved_codes();
  reader.require_spatial();
  const int64_t factor = reader.integer("upscale_factor", 1, kMaxExtent);
  const Value& x = reader.input();
  reader.require(x.c % (factor * factor) == 0, "upscale_factor^2 must divide the channels");
  Value& y = reader.output();
  y.spatial = true;
  y.c = x.c / (factor * factor);
  y.h = x.h * factor;
  y.w = x.w * factor;
  return PixelShuffle{factor};
}

Operation read_pixel_unshuffle(NodeReader& reader) {
  reader.require_moved_codes();
  reader.require_spatial();
  const int64_t factor = reader.integer("downscale_factor", 1, kMaxExtent);
  const Value& x = reader.input();
  reader.require(x.h % factor == 0 && x.w % factor == 0, "downscale_factor must divide height and width");
  Value& y = reader.output();
  y.spatial = true;
  y.c = x.c * factor * factor;
  y.h = x.h / factor;
  y.w = x.w / factor;
  return PixelUnshuffle{factor};
}

Operation read_upsample_nearest2d(NodeReader& reader) {
  reader.require_moved_codes();
  reader.require_spatial();
  const auto factor = reader.integers("scale_factor", 2, 1, kMaxExtent);
  const Value& x = reader.input();
  Value& y = reader.output();
  y.spatial = true;
  y.c = x.c;
  y.h = x.h * factor[0];
  y.w = x.w * factor[1];
  return UpsampleNearest2d{factor[0], factor[1]};
}

Operation read_upsample_zeros2d(NodeReader& reader) {
  reader.require_moved_codes();
  reader.require_spatial();
  const auto factor = reader.integers("scale_factor", 2, 1, kMaxExtent);
  const Value& x = reader.input();
  Value& y = reader.output();
  y.spatial = true;
  y.c = x.c;
  y.h = (x.h - 1) * factor[0] + 1;
  y.w = (x.w - 1) * factor[1] + 1;
  return UpsampleZeros2d{factor[0], factor[1]};
}

Operation read_upsample_bilinear2d(NodeReader& reader) {
  // What is between codes is in their range: rounding a weighted mean can't leave it.
  reader.require_moved_codes();
  reader.require_spatial();
  const auto size = reader.integers("size", 2, 1, kMaxExtent);
  Value& y = reader.output();
  y.spatial = true;
  y.c = reader.input().c;
  y.h = size[0];
  y.w = size[1];
  return UpsampleBilinear2d{reader.boolean_or("align_corners", false)};
}

}  // namespace ptqx::engine
