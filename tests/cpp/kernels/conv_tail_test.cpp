#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "kernel_rows.h"
#include "kernels/conv_tail.h"

namespace ptqx::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr int64_t kPixels = 5;
constexpr int64_t kFirst = 2;  // pixels before the ones that are finished

/// Operands for `channels` channels of a wider output, of which they are the ones from `channel` on.
struct TailOperands {
  TailOperands(int64_t channel_, int64_t channels_, int64_t nr_)
      : channel(channel_), channels(channels_), nr(nr_) {
    std::mt19937 random(5);
    const int64_t width = channel + channels;
    std::uniform_real_distribution<float> real(-2.0F, 2.0F);
    std::uniform_int_distribution<int32_t> integer(-200, 400);
    for (int64_t i = 0; i < kPixels * nr; ++i) acc.push_back(integer(random));
    acc[0] = std::numeric_limits<int32_t>::max();
    acc[static_cast<size_t>(nr)] = std::numeric_limits<int32_t>::min();
    for (int64_t i = 0; i < width; ++i) {
      multiplier.push_back(i % 5 == 1 ? 0.5F : real(random));  // many ties
      bias.push_back(real(random));
      slopes.push_back(real(random));
    }
    for (int64_t i = 0; i < kFirst + kPixels; ++i) {
      places.push_back((kFirst + kPixels - 1 - i) * (width + 3));
      scales.push_back(real(random));
    }
    for (int64_t i = 0; i < size(); ++i) residual.push_back(static_cast<uint8_t>(random()));
    for (int64_t i = 0; i < width; ++i) {
      shift.push_back(i % 7 == 0 ? static_cast<int32_t>(i % 9) : static_cast<int32_t>(random() % 63));
      fixed_multiplier.push_back(static_cast<int32_t>(random() >> (i % 3 == 0 ? 1 : shift.back() % 31 + 1)));
    }
  }

  int64_t size() const { return (kFirst + kPixels) * (channel + channels + 3); }

  template <class T>
  std::vector<T> run(ConvTailFn* function, Tail tail, bool scaled, bool pixel_scale) const {
    tail.multiplier = multiplier.data();
    tail.fixed_multiplier = fixed_multiplier.data();
    tail.shift = shift.data();
    GuardedBuffer<T> output(size());
    const ConvTailArgs args{.tail = &tail,
                            .channel = channel,
                            .channels = channels,
                            .places = places.data(),
                            .pixel_scale = pixel_scale ? scales.data() : nullptr,
                            .output = output.data(),
                            .scaled = scaled,
                            .bounded = tail_is_bounded(tail, channel + channels)};
    function(args, acc.data(), kFirst, kPixels, nr);
    EXPECT_TRUE(output.guards_intact());
    return output.values();
  }

  int64_t channel, channels, nr;
  std::vector<int32_t> acc, fixed_multiplier, shift;
  std::vector<float> multiplier, bias, slopes, scales;
  std::vector<int64_t> places;
  std::vector<uint8_t> residual;
};

std::vector<ActivationArgs> activations(const TailOperands& operands) {
  return {{},
          {.kind = Activation::kClip, .low = 0.0F, .high = kInfinity},
          {.kind = Activation::kClip, .low = 0.0F, .high = 60.25F},
          {.kind = Activation::kClip, .low = 3.5F, .high = 60.5F},
          {.kind = Activation::kClip, .low = -1000.0F, .high = -3.0F},
          {.kind = Activation::kClip, .low = 5.0F, .high = 2.0F},
          {.kind = Activation::kLeakyRelu, .slope = 0.125F},
          {.kind = Activation::kPrelu, .slopes = operands.slopes.data()},
          {.kind = Activation::kHardsigmoid, .high = 77.0F, .slope = 1.0F / 6.0F, .offset = 38.5F},
          {.kind = Activation::kHardswish, .slope = 0.01F}};
}

template <class T>
void expect_rows_agree(const TailOperands& operands, const Tail& tail, bool scaled = false,
                       bool pixel_scale = false) {
  for_each_vector_row(conv_tail_rows(), [&](ConvTailFn* function) {
    expect_same(operands.run<T>(conv_tail_scalar, tail, scaled, pixel_scale),
                operands.run<T>(function, tail, scaled, pixel_scale));
  });
}

TEST(ConvTailTest, EveryRowEqualsTheScalarOne) {
  for (const int64_t nr : {16, 32, 48, 64}) {
    for (const int64_t channels :
         std::set<int64_t>{1, nr / 2 - 1, nr / 2, nr - 15, nr - 9, nr - 8, nr - 7, nr - 1, nr}) {
      for (const int64_t channel : {0, 3}) {
        const TailOperands operands(channel, channels, nr);
        for (const ActivationArgs& activation : activations(operands)) {
          for (int options = 0; options < 8; ++options) {
            SCOPED_TRACE("nr " + std::to_string(nr) + ", channels " + std::to_string(channels) +
                         ", activation " + std::to_string(static_cast<int>(activation.kind)) + ", options " +
                         std::to_string(options));
            Tail tail;
            tail.activation = activation;
            if ((options & 1) != 0) tail.bias_f32 = operands.bias.data();
            if ((options & 2) != 0) {
              tail.residual = operands.residual.data();
              tail.residual_multiplier = 0.37F;
              tail.residual_zero_point = 99;
            }
            if ((options & 4) != 0) {
              tail.output_zero_point = 100;
              tail.qmin = 2;
              tail.qmax = 240;
            }
            expect_rows_agree<uint8_t>(operands, tail, false, (options & 3) == 3);
            tail.output = Output::kF32;
            expect_rows_agree<float>(operands, tail, false, (options & 3) == 3);
            if (HasFailure()) return;
          }
        }
        Tail integers;
        integers.output = Output::kS32;
        expect_rows_agree<int32_t>(operands, integers);
        Tail fixed_point;
        fixed_point.output = Output::kU8FixedPoint;
        expect_rows_agree<uint8_t>(operands, fixed_point);
        fixed_point.output_zero_point = 100;
        fixed_point.qmin = 2;
        fixed_point.qmax = 240;
        expect_rows_agree<uint8_t>(operands, fixed_point);
      }
    }
  }
}

TEST(ConvTailTest, FixedPointRoundsHalfToEven) {
  constexpr int64_t kChannels = 24;
  TailOperands operands(0, kChannels, 32);
  Tail tail;
  tail.output = Output::kU8FixedPoint;
  tail.output_zero_point = 10;
  tail.qmin = 3;
  tail.qmax = 250;
  std::ranges::fill(operands.acc, 0);
  std::ranges::fill(operands.fixed_multiplier, 3);
  std::ranges::fill(operands.shift, 2);
  // acc * 3 / 4, and 10
  const std::vector<int32_t> acc = {2, 6, -2, -6, 1, 3, 5, -10, 1000, 0};
  const std::vector<uint8_t> codes = {12, 14, 8, 6, 11, 12, 14, 3, 250, 10};  // 1.5, 4.5, -1.5, -4.5, ...
  std::ranges::copy(acc, operands.acc.begin());
  operands.fixed_multiplier[10] = 77;  // nothing is lost where nothing is shifted
  operands.shift[10] = 0;
  operands.acc[10] = 2;
  for (const Row<ConvTailFn>& row : conv_tail_rows()) {
    if (!isa_supported(row.isa)) continue;
    const auto output = operands.run<uint8_t>(row.function, tail, false, false);
    const auto first = output.begin() + operands.places[kFirst];
    EXPECT_EQ(std::vector<uint8_t>(first, first + std::ssize(codes)), codes) << row.name;
    EXPECT_EQ(first[10], 164) << row.name;
  }
}

TEST(ConvTailTest, BoundedTailsEqualTheScalarOne) {
  for (const int64_t nr : {16, 32, 48, 64}) {
    for (const int64_t channels : std::set<int64_t>{nr - 15, nr - 9, nr - 1, nr}) {
      TailOperands operands(3, channels, nr);
      for (float& m : operands.multiplier) m *= 0.2F;
      for (const ActivationArgs& activation : activations(operands)) {
        for (const int32_t zero_point : {0, 100, 255}) {
          for (const bool residual : {false, true}) {
            SCOPED_TRACE("nr " + std::to_string(nr) + ", channels " + std::to_string(channels) + ", high " +
                         std::to_string(activation.high) + ", zero point " + std::to_string(zero_point));
            Tail tail;
            tail.activation = activation;
            tail.output_zero_point = zero_point;
            if (residual) {
              tail.residual = operands.residual.data();
              tail.residual_multiplier = 0.37F;
              tail.residual_zero_point = 99;
            }
            tail.multiplier = operands.multiplier.data();
            ASSERT_TRUE(tail_is_bounded(tail, channels));
            expect_rows_agree<uint8_t>(operands, tail);
            if (HasFailure()) return;
          }
        }
      }
    }
  }
}

TEST(ConvTailTest, BoundsAreOfEveryConstant) {
  const std::vector<float> multiplier = {0.25F, -0.5F};
  std::vector<float> bias = {1.0F, -2.0F};
  Tail tail;
  EXPECT_FALSE(tail_is_bounded(tail, 2)) << "no multiplier";
  tail.multiplier = multiplier.data();
  tail.bias_f32 = bias.data();
  EXPECT_TRUE(tail_is_bounded(tail, 2));
  bias[1] = kNaN;
  EXPECT_FALSE(tail_is_bounded(tail, 2));
  bias[1] = -1.5e9F;
  EXPECT_FALSE(tail_is_bounded(tail, 2));
  EXPECT_TRUE(tail_is_bounded(tail, 1));
  tail.residual_multiplier = kInfinity;
  EXPECT_FALSE(tail_is_bounded(tail, 1));
}

TEST(ConvTailTest, ZeroPointOutsideTheCodesIsClamped) {
  const TailOperands operands(0, 40, 48);
  Tail tail;
  tail.output_zero_point = 10;
  tail.qmin = 20;
  tail.qmax = 200;
  expect_rows_agree<uint8_t>(operands, tail);
}

TEST(ConvTailTest, NotNumbersBecomeTheZeroPoint) {
  for (const int64_t nr : {16, 64}) {
    TailOperands operands(0, nr, nr);
    operands.multiplier[0] = kNaN;
    operands.multiplier[3] = kInfinity;
    operands.multiplier[4] = -kInfinity;
    operands.acc[3] = 0;
    for (const ActivationArgs& activation : activations(operands)) {
      SCOPED_TRACE("activation " + std::to_string(static_cast<int>(activation.kind)));
      Tail tail;
      tail.activation = activation;
      tail.output_zero_point = 7;
      expect_rows_agree<uint8_t>(operands, tail);
      tail.output = Output::kF32;
      expect_rows_agree<float>(operands, tail);
    }
    Tail tail;
    tail.output_zero_point = 7;
    EXPECT_EQ(operands.run<uint8_t>(conv_tail_scalar, tail, false,
                                    false)[static_cast<size_t>(operands.places[kFirst])],
              7);
  }
}

TEST(ConvTailTest, ScaledAccumulatorsAreFloats) {
  TailOperands operands(0, 33, 48);
  for (size_t i = 0; i < operands.acc.size(); ++i) {
    operands.acc[i] = std::bit_cast<int32_t>(static_cast<float>(i % 300) * 0.5F - 20.0F);
  }
  Tail tail;
  tail.activation = {.kind = Activation::kClip, .low = 0.0F, .high = kInfinity};
  expect_rows_agree<uint8_t>(operands, tail, true);
  tail.output = Output::kF32;
  expect_rows_agree<float>(operands, tail, true);
}

}  // namespace
}  // namespace ptqx::kernels
