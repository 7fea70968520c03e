#pragma once

// A convolution of an image between whose pixels lie zeros, as a transposed convolution is written, without
// its multiplications by these zeros. Every factor-th output of a line meets the same taps: the outputs of
// such a phase are a convolution of the image itself with these taps.
//
//   input, factor 2   | a 0 b 0 c |      kernel w0 w1 w2, padding 1
//   even outputs      | w1 a   w1 b   w1 c |
//   odd outputs       | w0 a + w2 b   w0 b + w2 c |

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/conv2d.h"

namespace ptqx::engine {

struct ConvPhase {
  Conv2dShape shape;
  OutputGrid grid;
  int64_t first_tap_h, first_tap_w;  // of the whole kernel; the others follow by the steps of the grid
};

/// More are not worth a layer each, and a file must not ask for a million of them.
inline constexpr int64_t kMostPhases = 64;

/// The phases of a convolution of an image of h x w with factor - 1 zeros after every pixel but the last.
/// None if one of them is no convolution, without taps or with less than no padding, or if they are more than
/// kMostPhases.
std::optional<std::vector<ConvPhase>> conv_phases(const Conv2dShape& shape, int64_t h, int64_t w,
                                                  int64_t factor_h, int64_t factor_w);

/// The taps of a phase, of `weight` OIHW as `shape` says.
std::vector<int8_t> phase_weight(const Conv2dShape& shape, const std::vector<int8_t>& weight,
                                 const ConvPhase& phase);

}  // namespace ptqx::engine
