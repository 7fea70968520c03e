#include "kernels/pool.h"

#include "kernels/arith.h"
#include "kernels/pool_window.h"

namespace ptqx::kernels {
namespace {

template <class Windows>
void average(const uint8_t* x, const PoolShape& shape, const AvgPoolArgs& args, const Windows& windows,
             uint8_t* y) {
  for (int64_t oy = 0; oy < shape.oh; ++oy) {
    const Window rows = windows.rows(oy);
    for (int64_t ox = 0; ox < shape.ow; ++ox) {
      const Window columns = windows.columns(ox);
      const float multiplier = avg_multiplier(args, rows, columns);
      for (int64_t channel = 0; channel < shape.c; ++channel) {
        int32_t sum = 0;
        for (int64_t iy = rows.begin; iy < rows.end; ++iy) {
          for (int64_t ix = columns.begin; ix < columns.end; ++ix) {
            sum += x[(iy * shape.w + ix) * shape.c + channel] - args.input_zero_point;
          }
        }
        const float t = static_cast<float>(sum) * multiplier;
        *y++ = static_cast<uint8_t>(round_and_clamp(t, args.output_zero_point, args.qmin, args.qmax));
      }
    }
  }
}

}  // namespace

void max_pool2d_u8_scalar(const uint8_t* x, const PoolShape& shape, uint8_t* y) {
  for (int64_t oy = 0; oy < shape.oh; ++oy) {
    const Taps rows = max_taps(oy, shape.h, shape.kernel_h, shape.stride_h, shape.pad_top, shape.dilation_h);
    for (int64_t ox = 0; ox < shape.ow; ++ox) {
      const Taps columns =
          max_taps(ox, shape.w, shape.kernel_w, shape.stride_w, shape.pad_left, shape.dilation_w);
      for (int64_t channel = 0; channel < shape.c; ++channel) {
        uint8_t largest = 0;
        for (int64_t ky = rows.first; ky < rows.last; ++ky) {
          for (int64_t kx = columns.first; kx < columns.last; ++kx) {
            const int64_t iy = rows.start + ky * shape.dilation_h;
            const int64_t ix = columns.start + kx * shape.dilation_w;
            largest = std::max(largest, x[(iy * shape.w + ix) * shape.c + channel]);
          }
        }
        *y++ = largest;
      }
    }
  }
}

void avg_pool2d_u8_scalar(const uint8_t* x, const PoolShape& shape, const AvgPoolArgs& args, uint8_t* y) {
  average(x, shape, args, AvgPoolWindows{shape, args}, y);
}

void adaptive_avg_pool2d_u8_scalar(const uint8_t* x, const PoolShape& shape, const AvgPoolArgs& args,
                                   uint8_t* y) {
  average(x, shape, args, AdaptiveWindows{shape}, y);
}

}  // namespace ptqx::kernels
