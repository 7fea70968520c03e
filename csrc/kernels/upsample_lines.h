#pragma once

// The order in which vector kernels compute bilinear interpolation: a row of the input is interpolated
// along its columns once, for all rows of the output that lie beside it. In an anonymous namespace
// because files of several instruction sets include it.

#include "kernels/upsample.h"

namespace ptqx::kernels {
namespace {

/// between_columns(row, line) makes a row of the input one of `ow` pixels; between_rows(first, second, tap,
/// y) makes a row of the output of two such lines of ow * c floats.
template <class T, class BetweenColumns, class BetweenRows>
void interpolate_lines(const T* x, const BilinearArgs& args, float* scratch, T* y,
                       BetweenColumns between_columns, BetweenRows between_rows) {
  const int64_t length = args.ow * args.c;
  int64_t held[2] = {-1, -1};  // rows of the input, one even, one odd
  const auto line = [&](int64_t row) {
    float* place = scratch + row % 2 * length;
    if (held[row % 2] != row) between_columns(x + row * args.w * args.c, place);
    held[row % 2] = row;
    return place;
  };
  for (int64_t oy = 0; oy < args.oh; ++oy, y += length) {
    const BilinearTap& tap = args.rows[oy];
    const float* first = line(tap.first);
    between_rows(first, line(tap.second), tap, y);
  }
}

}  // namespace
}  // namespace ptqx::kernels
