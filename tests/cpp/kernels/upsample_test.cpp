#include "kernels/upsample.h"

#include <algorithm>
#include <tuple>

#include "kernel_rows.h"

namespace ptqx::kernels {
namespace {

/// Input and output size of an axis: larger, smaller, the same, one of either.
struct Axis {
  int64_t in, out;
};
const std::vector<Axis> kAxes = {{5, 10}, {4, 11}, {7, 3}, {6, 6}, {1, 4}, {5, 1}, {1, 1}, {2, 9}};

struct Case {
  Case(Axis rows_axis, Axis columns_axis, bool align_corners, int64_t channels)
      : rows(static_cast<size_t>(rows_axis.out)),
        columns(static_cast<size_t>(columns_axis.out)),
        input(rows_axis.in * columns_axis.in * channels),
        output(rows_axis.out * columns_axis.out * channels) {
    bilinear_taps(rows_axis.in, rows_axis.out, align_corners, 0, rows_axis.out, rows.data());
    bilinear_taps(columns_axis.in, columns_axis.out, align_corners, 0, columns_axis.out, columns.data());
    args = {.c = channels,
            .w = columns_axis.in,
            .oh = rows_axis.out,
            .ow = columns_axis.out,
            .rows = rows.data(),
            .columns = columns.data(),
            .zero_point = 37};
  }

  std::vector<BilinearTap> rows, columns;
  int64_t input, output;  // elements
  BilinearArgs args{};
};

/// check(case) for sizes, both rules for corners and numbers of channels around every block.
template <class Check>
void for_each_case(Check check) {
  for (const bool align_corners : {false, true}) {
    for (size_t i = 0; i < kAxes.size(); ++i) {
      for (const int64_t channels : {1, 3, 8, 9, 15, 16, 17, 32, 33, 65}) {
        const Axis rows = kAxes[i], columns = kAxes[(i + 3) % kAxes.size()];
        SCOPED_TRACE(testing::Message() << rows.in << " to " << rows.out << " rows, " << columns.in << " to "
                                        << columns.out << " columns, " << channels << " channels");
        check(Case(rows, columns, align_corners, channels));
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

/// The whole image, in two bands.
template <class Fn, class T>
void expect_same_as_scalar(const Case& upsampling, std::span<const Row<Fn>> rows, const std::vector<T>& x) {
  const BilinearArgs& args = upsampling.args;
  std::vector<T> expected(static_cast<size_t>(upsampling.output));
  rows.front().function(x.data(), args, nullptr, expected.data());
  BilinearArgs first = args, second = args;
  first.oh = args.oh / 2;
  second.oh -= first.oh;
  second.rows += first.oh;
  for_each_vector_row(rows, [&](Fn* function) {
    GuardedBuffer<T> y(upsampling.output);
    GuardedBuffer<float> scratch(bilinear_scratch(args));
    function(x.data(), first, scratch.data(), y.data());
    function(x.data(), second, scratch.data(), y.data() + first.oh * args.ow * args.c);
    expect_same(expected, y.values());
    EXPECT_TRUE(y.guards_intact() && scratch.guards_intact());
  });
}

TEST(UpsampleBilinear2d, test_codes_equal_scalar) {
  for_each_case([](const Case& upsampling) {
    expect_same_as_scalar(upsampling, upsample_bilinear2d_u8_rows(),
                          random_codes<uint8_t>(upsampling.input, 0, 255));
  });
}

TEST(UpsampleBilinear2d, test_real_values_equal_scalar) {
  for_each_case([](const Case& upsampling) {
    expect_same_as_scalar(upsampling, upsample_bilinear2d_f32_rows(),
                          edge_values(upsampling.input, 0.1F, true));
  });
}

TEST(UpsampleBilinear2d, test_codes_are_near_those_of_long_double) {
  for_each_case([](const Case& upsampling) {
    const auto x = random_codes<uint8_t>(upsampling.input, 0, 255);
    std::vector<float> scratch(static_cast<size_t>(bilinear_scratch(upsampling.args)));
    std::vector<uint8_t> y(static_cast<size_t>(upsampling.output));
    const BilinearArgs& args = upsampling.args;
    upsample_bilinear2d_u8(x.data(), args, scratch.data(), y.data());
    size_t index = 0;
    for (const BilinearTap& row : upsampling.rows) {
      for (const BilinearTap& column : upsampling.columns) {
        for (int64_t c = 0; c < args.c; ++c) {
          const auto q = [&](int64_t iy, int64_t ix) -> long double {
            return x[static_cast<size_t>((iy * args.w + ix) * args.c + c)];
          };
          const long double right = column.second_weight, below = row.second_weight;
          const long double above_q =
              q(row.first, column.first) * (1 - right) + q(row.first, column.second) * right;
          const long double below_q =
              q(row.second, column.first) * (1 - right) + q(row.second, column.second) * right;
          const long double expected = above_q * (1 - below) + below_q * below;
          ASSERT_NEAR(y[index++], static_cast<double>(expected), 0.5001);
        }
      }
    }
  });
}

TEST(UpsampleBilinear2d, test_ties_go_to_the_even_distance_from_the_zero_point) {
  const std::vector<uint8_t> x = {10, 11, 12, 13};
  BilinearTap row{0, 0, 1.0F, 0.0F};
  const std::vector<BilinearTap> columns = {{0, 1, 0.5F, 0.5F}, {1, 2, 0.5F, 0.5F}};
  BilinearArgs args{
      .c = 1, .w = 4, .oh = 1, .ow = 2, .rows = &row, .columns = columns.data(), .zero_point = 10};
  for (const auto& kernel : upsample_bilinear2d_u8_rows()) {
    if (!isa_supported(kernel.isa)) continue;
    std::vector<float> scratch(4);
    std::vector<uint8_t> y(2);
    args.zero_point = 10;  // distances of 0.5 and 1.5
    kernel.function(x.data(), args, scratch.data(), y.data());
    expect_same({10, 12}, y);
    args.zero_point = 11;  // of -0.5 and 0.5
    kernel.function(x.data(), args, scratch.data(), y.data());
    expect_same({11, 11}, y);
  }
}

TEST(BilinearTaps, test_coordinates_are_those_of_torch) {
  const auto taps_of = [](int64_t in, int64_t out, bool align_corners) {
    std::vector<BilinearTap> taps(static_cast<size_t>(out));
    bilinear_taps(in, out, align_corners, 0, out, taps.data());
    return taps;
  };
  const auto expect_taps = [](const std::vector<BilinearTap>& taps,
                              const std::vector<std::tuple<int64_t, int64_t, float>>& expected) {
    ASSERT_EQ(taps.size(), expected.size());
    for (size_t i = 0; i < taps.size(); ++i) {
      EXPECT_EQ(std::tuple(taps[i].first, taps[i].second, taps[i].second_weight), expected[i]) << i;
      EXPECT_EQ(taps[i].first_weight, 1.0F - taps[i].second_weight);
    }
  };
  expect_taps(taps_of(2, 4, false), {{0, 1, 0.0F}, {0, 1, 0.25F}, {0, 1, 0.75F}, {1, 1, 0.25F}});
  expect_taps(taps_of(3, 5, true), {{0, 1, 0.0F}, {0, 1, 0.5F}, {1, 2, 0.0F}, {1, 2, 0.5F}, {2, 2, 0.0F}});
  expect_taps(taps_of(4, 1, true), {{0, 1, 0.0F}});
  expect_taps(taps_of(4, 1, false), {{1, 2, 0.5F}});
  expect_taps(taps_of(1, 2, true), {{0, 0, 0.0F}, {0, 0, 0.0F}});
  std::vector<BilinearTap> part(2);
  bilinear_taps(3, 5, true, 2, 4, part.data());
  expect_taps(part, {{1, 2, 0.0F}, {1, 2, 0.5F}});
  for (const bool align_corners : {false, true}) {
    for (const BilinearTap& tap : taps_of(1000, 1777, align_corners)) {
      EXPECT_TRUE(0 <= tap.first && tap.first <= tap.second && tap.second <= 999);
      EXPECT_TRUE(0.0F <= tap.second_weight && tap.second_weight <= 1.0F);
    }
  }
}

}  // namespace
}  // namespace ptqx::kernels
