#include "kernels/depthwise.h"

namespace ptqx::kernels {

void depthwise_u8s8_scalar(const DepthwiseArgs& args) {
  int64_t pixel = 0;
  int32_t* acc = args.acc;
  for (const DepthwiseSegment& segment : std::span(args.segments, static_cast<size_t>(args.segment_count))) {
    for (int64_t p = 0; p < segment.pixels; ++p, ++pixel, acc += kDepthwiseChannels) {
      for (int64_t c = 0; c < args.channels; ++c) {
        uint32_t sum = static_cast<uint32_t>(segment.init[c]);
        for (int64_t t = segment.tap_begin; t < segment.tap_end; ++t) {
          const int64_t column = args.first_column + pixel * args.stride + t * args.dilation;
          for (int64_t r = 0; r < 4 * args.quads; ++r) {
            if (args.rows[r] == nullptr) continue;
            const int64_t quad = t * args.quads + r / 4;
            const int8_t w = args.weights[(quad * kDepthwiseChannels + c) * 4 + r % 4];
            sum += static_cast<uint32_t>(args.rows[r][column * args.column_bytes + c] * w);
          }
        }
        acc[c] = static_cast<int32_t>(sum);
      }
    }
  }
  if (args.tail != nullptr) args.tail(*args.tail_args, args.acc, 0, pixel, kDepthwiseChannels);
}

}  // namespace ptqx::kernels
