#include "kernels/pool.h"

#include <algorithm>

#include "kernel_rows.h"
#include "kernels/arith.h"

namespace ptqx::kernels {
namespace {

/// One dimension of a pooling layer; `after` is the padding at the far end.
struct Axis {
  const char* name;
  int64_t size, kernel, stride, before, after, dilation;
  bool ceil_mode;

  int64_t outputs() const {
    const int64_t room = size + before + after - (kernel - 1) * dilation - 1;
    int64_t count = (room + (ceil_mode ? stride - 1 : 0)) / stride + 1;
    if (ceil_mode && (count - 1) * stride >= size + before)
      --count;  // a window may not start in the far padding
    return count;
  }
};

const std::vector<Axis> kAxes = {
    {"2 by 2", 6, 2, 2, 0, 0, 1, false},
    {"odd size cut", 7, 2, 2, 0, 0, 1, false},
    {"ceil overhang", 7, 2, 2, 0, 0, 1, true},
    {"overlap with padding", 7, 3, 2, 1, 1, 1, false},
    {"padding on one side", 6, 3, 1, 1, 0, 1, false},
    {"ceil with padding", 8, 3, 2, 1, 1, 1, true},
    {"dilated", 9, 3, 1, 2, 2, 2, false},
    {"stride beyond the kernel", 10, 2, 3, 0, 0, 1, false},
    {"whole map", 5, 5, 1, 0, 0, 1, false},
    {"one pixel", 1, 1, 1, 0, 0, 1, false},
    {"dilated even kernel", 6, 2, 2, 1, 1, 3, false},
    {"far ceil overhang", 5, 3, 4, 1, 1, 1, true},
};
const std::vector<int64_t> kChannelCounts = {1, 3, 7, 8, 9, 16, 17, 31, 32, 33, 63, 64, 65, 130};

PoolShape shape_of(const Axis& rows, const Axis& columns, int64_t c) {
  return {c,
          rows.size,
          columns.size,
          rows.outputs(),
          columns.outputs(),
          rows.kernel,
          columns.kernel,
          rows.stride,
          columns.stride,
          rows.before,
          columns.before,
          rows.dilation,
          columns.dilation};
}

std::string text(const Axis& rows, const Axis& columns, int64_t c) {
  return std::string("rows: ") + rows.name + ", columns: " + columns.name + ", " + std::to_string(c) +
         " channels";
}

/// check(rows, columns, c) with every axis, every count of channels and every pair of axes.
template <class Check>
void for_each_case(Check check) {
  for (const Axis& rows : kAxes) {
    for (const Axis& columns : kAxes) check(rows, columns, 17);
    for (int64_t c : kChannelCounts) check(rows, rows, c);
  }
}

std::vector<uint8_t> image(const PoolShape& shape) {
  return random_codes<uint8_t>(shape.h * shape.w * shape.c, 0, 255, static_cast<uint32_t>(shape.c));
}

/// The pixel's code, or `outside` where there is none.
int pixel(const std::vector<uint8_t>& x, const PoolShape& shape, int64_t iy, int64_t ix, int64_t channel,
          int outside) {
  if (iy < 0 || iy >= shape.h || ix < 0 || ix >= shape.w) return outside;
  return x[static_cast<size_t>((iy * shape.w + ix) * shape.c + channel)];
}

TEST(MaxPoolRows, test_every_window_equals_the_plain_definition) {
  for_each_case([](const Axis& rows, const Axis& columns, int64_t c) {
    SCOPED_TRACE(text(rows, columns, c));
    const PoolShape shape = shape_of(rows, columns, c);
    const std::vector<uint8_t> x = image(shape);
    std::vector<uint8_t> expected;
    for (int64_t oy = 0; oy < shape.oh; ++oy) {
      for (int64_t ox = 0; ox < shape.ow; ++ox) {
        for (int64_t channel = 0; channel < c; ++channel) {
          int largest = -1;
          for (int64_t ky = 0; ky < shape.kernel_h; ++ky) {
            for (int64_t kx = 0; kx < shape.kernel_w; ++kx) {
              const int64_t iy = oy * shape.stride_h - shape.pad_top + ky * shape.dilation_h;
              const int64_t ix = ox * shape.stride_w - shape.pad_left + kx * shape.dilation_w;
              largest = std::max(largest, pixel(x, shape, iy, ix, channel, -1));
            }
          }
          ASSERT_GE(largest, 0) << "a window without pixels";
          expected.push_back(static_cast<uint8_t>(largest));
        }
      }
    }
    for (const Row<MaxPool2dU8Fn>& row : max_pool2d_u8_rows()) {
      if (!isa_supported(row.isa)) continue;
      SCOPED_TRACE(row.name);
      GuardedBuffer<uint8_t> y(static_cast<int64_t>(expected.size()));
      row.function(x.data(), shape, y.data());
      expect_same(expected, y.values());
      ASSERT_TRUE(y.guards_intact());
    }
  });
}

/// The average of the codes of a window of rows and columns, with `count` from the caller.
uint8_t average(const std::vector<uint8_t>& x, const PoolShape& shape, const AvgPoolArgs& args, int64_t y0,
                int64_t y1, int64_t x0, int64_t x1, int64_t channel, int64_t count) {
  int64_t sum = 0;
  for (int64_t iy = y0; iy < y1; ++iy) {
    for (int64_t ix = x0; ix < x1; ++ix) {
      // Padding is zero in real numbers, so its code is the zero point.
      sum += pixel(x, shape, iy, ix, channel, args.input_zero_point) - args.input_zero_point;
    }
  }
  const float multiplier = args.scale_ratio / static_cast<float>(count);
  return static_cast<uint8_t>(
      round_and_clamp(static_cast<float>(sum) * multiplier, args.output_zero_point, args.qmin, args.qmax));
}

void expect_average_rows(std::span<const Row<AvgPool2dU8Fn>> rows, const std::vector<uint8_t>& x,
                         const PoolShape& shape, const AvgPoolArgs& args,
                         const std::vector<uint8_t>& expected) {
  for (const Row<AvgPool2dU8Fn>& row : rows) {
    if (!isa_supported(row.isa)) continue;
    SCOPED_TRACE(row.name);
    GuardedBuffer<uint8_t> y(static_cast<int64_t>(expected.size()));
    row.function(x.data(), shape, args, y.data());
    expect_same(expected, y.values());
    ASSERT_TRUE(y.guards_intact());
  }
}

TEST(AvgPoolRows, test_every_window_and_divisor_equals_the_plain_definition) {
  for_each_case([](const Axis& rows, const Axis& columns, int64_t c) {
    if (rows.dilation != 1 || columns.dilation != 1) return;
    SCOPED_TRACE(text(rows, columns, c));
    const PoolShape shape = shape_of(rows, columns, c);
    const std::vector<uint8_t> x = image(shape);
    for (bool count_include_pad : {false, true}) {
      for (int64_t divisor : {0, 3}) {
        const AvgPoolArgs args{113, 0.83F, rows.after, columns.after, count_include_pad, divisor, 90, 3, 250};
        std::vector<uint8_t> expected;
        for (int64_t oy = 0; oy < shape.oh; ++oy) {
          for (int64_t ox = 0; ox < shape.ow; ++ox) {
            const int64_t y0 = oy * shape.stride_h - shape.pad_top;
            const int64_t x0 = ox * shape.stride_w - shape.pad_left;
            int64_t count = 0;
            for (int64_t iy = y0; iy < y0 + shape.kernel_h; ++iy) {
              for (int64_t ix = x0; ix < x0 + shape.kernel_w; ++ix) {
                const bool in_image = iy >= 0 && iy < shape.h && ix >= 0 && ix < shape.w;
                const bool in_padding = iy < shape.h + rows.after && ix < shape.w + columns.after;
                count += (count_include_pad ? in_padding : in_image) ? 1 : 0;
              }
            }
            if (divisor != 0) count = divisor;
            for (int64_t channel = 0; channel < c; ++channel) {
              expected.push_back(
                  average(x, shape, args, y0, y0 + shape.kernel_h, x0, x0 + shape.kernel_w, channel, count));
            }
          }
        }
        expect_average_rows(avg_pool2d_u8_rows(), x, shape, args, expected);
      }
    }
  });
}

TEST(AdaptiveAvgPoolRows, test_even_uneven_and_overlapping_bins) {
  for (int64_t size : {1, 2, 5, 7, 8}) {
    for (int64_t outputs : {1, 2, 3, 5, 7, 8, 11}) {
      for (int64_t c : {3, 16, 33}) {
        SCOPED_TRACE(std::to_string(size) + " to " + std::to_string(outputs) + ", " + std::to_string(c) +
                     " channels");
        const PoolShape shape{c, size, size + 1, outputs, 2, 0, 0, 0, 0, 0, 0, 0, 0};
        const AvgPoolArgs args{113, 0.83F, 0, 0, false, 0, 90, 0, 255};
        const std::vector<uint8_t> x = image(shape);
        std::vector<uint8_t> expected;
        for (int64_t oy = 0; oy < shape.oh; ++oy) {
          for (int64_t ox = 0; ox < shape.ow; ++ox) {
            const auto bin = [](int64_t o, int64_t in, int64_t out) {
              const double ratio = static_cast<double>(in) / static_cast<double>(out);
              return std::pair(static_cast<int64_t>(std::floor(static_cast<double>(o) * ratio + 1e-9)),
                               static_cast<int64_t>(std::ceil(static_cast<double>(o + 1) * ratio - 1e-9)));
            };
            const auto [y0, y1] = bin(oy, shape.h, shape.oh);
            const auto [x0, x1] = bin(ox, shape.w, shape.ow);
            for (int64_t channel = 0; channel < c; ++channel) {
              expected.push_back(average(x, shape, args, y0, y1, x0, x1, channel, (y1 - y0) * (x1 - x0)));
            }
          }
        }
        expect_average_rows(adaptive_avg_pool2d_u8_rows(), x, shape, args, expected);
      }
    }
  }
}

TEST(AvgPoolRows, test_the_largest_window_does_not_overflow) {
  // 1024 x 1024 codes, all 255 with zero point 0: a sum of 267,386,880.
  const PoolShape shape{1, 1024, 1024, 1, 1, 1024, 1024, 1, 1, 0, 0, 1, 1};
  const AvgPoolArgs args{0, 1.0F, 0, 0, false, 0, 0, 0, 255};
  const std::vector<uint8_t> x(1024 * 1024, 255);
  expect_average_rows(avg_pool2d_u8_rows(), x, shape, args, {255});
}

TEST(AvgPoolRows, test_hand_computed_ties) {
  // Sums 2, 6 and 10 of four codes: averages 0.5, 1.5 and 2.5 round to even.
  const PoolShape shape{3, 2, 2, 1, 1, 2, 2, 2, 2, 0, 0, 1, 1};
  const AvgPoolArgs args{10, 1.0F, 0, 0, false, 0, 20, 0, 255};
  const std::vector<uint8_t> x = {12, 11, 10, 10, 12, 20, 10, 11, 10, 10, 12, 10};
  expect_average_rows(avg_pool2d_u8_rows(), x, shape, args, {20, 22, 22});
}

}  // namespace
}  // namespace ptqx::kernels
