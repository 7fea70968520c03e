#include "kernels/arith.h"
#include "kernels/upsample.h"

namespace ptqx::kernels {
namespace {

/// write(v, y) with the value of every element of the rows; `value` gives an element of the input.
template <class T, class Value, class Write>
void interpolate(const T* x, const BilinearArgs& args, T* y, Value value, Write write) {
  for (int64_t oy = 0; oy < args.oh; ++oy) {
    const BilinearTap& row = args.rows[oy];
    for (int64_t ox = 0; ox < args.ow; ++ox) {
      const BilinearTap& column = args.columns[ox];
      for (int64_t c = 0; c < args.c; ++c) {
        const auto q = [&](int64_t iy, int64_t ix) { return value(x[(iy * args.w + ix) * args.c + c]); };
        const auto between = [&](int64_t iy) {
          return q(iy, column.first) * column.first_weight + q(iy, column.second) * column.second_weight;
        };
        *y++ = write(between(row.first) * row.first_weight + between(row.second) * row.second_weight);
      }
    }
  }
}

}  // namespace

void upsample_bilinear2d_u8_scalar(const uint8_t* x, const BilinearArgs& args, float*, uint8_t* y) {
  const int32_t zero_point = args.zero_point;
  interpolate(
      x, args, y, [=](uint8_t code) { return static_cast<float>(code - zero_point); },
      [=](float v) { return static_cast<uint8_t>(round_and_clamp(v, zero_point, 0, 255)); });
}

void upsample_bilinear2d_f32_scalar(const float* x, const BilinearArgs& args, float*, float* y) {
  const auto same = [](float v) { return v; };
  interpolate(x, args, y, same, same);
}

}  // namespace ptqx::kernels
