#pragma once

// Products of two matrices of codes, both of which come with the samples: attention over pixels or tokens.
// The second is packed into the panels of kernels/gemm.h first, each time.

#include <cstddef>
#include <cstdint>

#include "kernels/conv_tail.h"
#include "kernels/gemm.h"

namespace ptqx::engine {

/// Rows times rows, both uint8 codes:
///   sum[i][j] = sum over k < depth of (a[i][k] - a_zero_point) * (b[j][k] - b_zero_point)    (exact)
///   t = float32(sum) * multiplier
/// and t itself, or clamp(round_half_even(t) + zero_point, qmin, qmax).
struct RowProductShape {
  int64_t depth;
  int64_t columns;  // rows of b
};
struct RowProductCodes {
  int32_t a_zero_point, b_zero_point;  // 0 to 255
  float multiplier;
  bool to_real;
  int32_t zero_point = 0, qmin = 0, qmax = 255;  // of the codes
};

/// Longer sums might overflow int32.
inline constexpr int64_t kMostProductDepth = ((int64_t{1} << 31) - 1) / (255 * 255);

class RowProduct {
 public:
  /// 1 <= depth <= kMostProductDepth, columns >= 1.
  RowProduct(RowProductShape shape, const RowProductCodes& codes);

  /// `packed`: b in panels, then what each sum begins with.
  size_t packed_bytes() const;
  /// Of panels, each of which pack() may write apart from the others.
  int64_t panels() const { return panels_; }
  void pack(const uint8_t* b, int64_t panel, uint8_t* packed) const;

  /// Rows of `a`, behind whose end up to kSlack bytes are read; y [rows][columns], uint8 or float32. Packed
  /// bytes lie on a line of 64.
  void run(const uint8_t* a, int64_t rows, const uint8_t* packed, void* y) const;
  static constexpr int64_t kSlack = 3;
  /// That are computed together.
  static constexpr int64_t kChunkRows = 96;

  const char* kernel_name() const { return gemm_->name; }

 private:
  size_t panel_bytes() const { return static_cast<size_t>(dwords_ * nr_ * 4); }

  RowProductShape shape_;
  RowProductCodes codes_;
  const kernels::Row<kernels::GemmFn>* gemm_;
  const kernels::Row<kernels::ConvTailFn>* tail_;
  int64_t dwords_, nr_, panels_;
};

}  // namespace ptqx::engine
