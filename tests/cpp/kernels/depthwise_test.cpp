#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "kernel_rows.h"
#include "kernels/depthwise.h"

namespace ptqx::kernels {
namespace {

struct DepthwiseCase {
  int64_t channels, quads, taps, stride, dilation;
  int64_t absent_row = -1;  // one that lies on padding; -2 for all of them
  bool extreme = false;
};

/// The accumulators of 1 + 9 + 1 pixels, of which the outer ones see all taps but the first or the last.
std::vector<int32_t> run(DepthwiseFn* function, const DepthwiseCase& c) {
  constexpr int64_t kInner = 9;
  std::mt19937 random(3);
  const int64_t missing = c.taps > 1 ? 1 : 0;  // taps that the outer pixels do not see
  const int64_t last_tap = (c.taps - 1) * c.dilation;
  // Column 0 is the first that the first pixel sees, unless the second pixel starts before it.
  const int64_t first_column = -std::min(missing * c.dilation, c.stride);
  const int64_t last_of_inner = first_column + kInner * c.stride + last_tap;
  const int64_t last_of_outer = first_column + (kInner + 1) * c.stride + last_tap - missing * c.dilation;
  const int64_t columns = std::max(last_of_inner, last_of_outer) + 1;

  const int64_t column_bytes = c.channels + 1;
  const int64_t row_bytes = columns * column_bytes;
  std::vector<uint8_t> input(static_cast<size_t>(4 * c.quads * row_bytes));
  for (uint8_t& x : input) x = c.extreme ? 255 : static_cast<uint8_t>(random());
  std::vector<const uint8_t*> rows;
  for (int64_t r = 0; r < 4 * c.quads; ++r) {
    const bool absent = r == c.absent_row || c.absent_row == -2;
    // One byte in, so that the last row's last channel is the last byte that may be read.
    rows.push_back(absent ? nullptr : input.data() + r * row_bytes + 1);
  }
  std::vector<int32_t> init(3 * kDepthwiseChannels);
  for (int32_t& x : init) x = static_cast<int32_t>(random());
  const DepthwiseSegment segments[] = {{1, missing, c.taps, init.data()},
                                       {kInner, 0, c.taps, init.data() + kDepthwiseChannels},
                                       {1, 0, c.taps - missing, init.data() + 2 * kDepthwiseChannels}};
  GuardedBuffer<int8_t> weights(c.taps * c.quads * 256, 0);
  for (int64_t i = 0; i < c.taps * c.quads * 256; ++i) {
    weights.data()[i] = c.extreme ? -128 : static_cast<int8_t>(random());
  }

  GuardedBuffer<int32_t> acc((kInner + 2) * kDepthwiseChannels);
  GuardedBuffer<uint8_t> work(columns * c.quads * 256, 0);
  function({.rows = rows.data(),
            .quads = c.quads,
            .columns = columns,
            .column_bytes = column_bytes,
            .first_column = first_column,
            .stride = c.stride,
            .dilation = c.dilation,
            .channels = c.channels,
            .weights = weights.data(),
            .segments = segments,
            .segment_count = 3,
            .acc = acc.data(),
            .work = work.data()});
  EXPECT_TRUE(acc.guards_intact());
  EXPECT_TRUE(work.guards_intact());
  std::vector<int32_t> result;
  for (int64_t p = 0; p < kInner + 2; ++p) {
    const int32_t* row = acc.data() + p * kDepthwiseChannels;
    result.insert(result.end(), row, row + c.channels);
  }
  return result;
}

void expect_rows_agree(const DepthwiseCase& c) {
  SCOPED_TRACE("channels " + std::to_string(c.channels) + ", quads " + std::to_string(c.quads) + ", taps " +
               std::to_string(c.taps) + ", stride " + std::to_string(c.stride) + ", dilation " +
               std::to_string(c.dilation) + ", absent row " + std::to_string(c.absent_row));
  for_each_vector_row(depthwise_u8s8_rows(), [&](DepthwiseFn* function) {
    expect_same(run(depthwise_u8s8_scalar, c), run(function, c));
  });
}

TEST(DepthwiseTest, EveryRowEqualsTheScalarOne) {
  for (const int64_t channels : {1, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64}) {
    for (const int64_t quads : {1, 2}) {
      for (const int64_t taps : {1, 2, 3, 4, 5, 7}) {
        for (const int64_t stride : {1, 2, 3}) expect_rows_agree({channels, quads, taps, stride, 1});
      }
      expect_rows_agree({channels, quads, 3, 3, 2});
    }
  }
}

TEST(DepthwiseTest, RowsOnPaddingCountAsZeros) {
  for (const int64_t absent_row : {-2, 0, 1, 2, 3, 4, 7}) {
    for (const int64_t channels : {20, 64}) {
      expect_rows_agree({channels, 1, 3, 1, 1, absent_row});
      expect_rows_agree({channels, 2, 5, 1, 1, absent_row});
    }
  }
}

TEST(DepthwiseTest, ExtremeValuesDoNotSaturate) { expect_rows_agree({64, 2, 7, 1, 1, -1, true}); }

}  // namespace
}  // namespace ptqx::kernels
