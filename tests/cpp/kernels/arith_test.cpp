#include "kernels/arith.h"

#include <gtest/gtest.h>

#include <limits>

namespace ptqx::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(RoundHalfEven, test_ties_go_to_the_even_neighbour) {
  EXPECT_EQ(round_half_even(0.5F), 0.0F);
  EXPECT_EQ(round_half_even(1.5F), 2.0F);
  EXPECT_EQ(round_half_even(2.5F), 2.0F);
  EXPECT_EQ(round_half_even(-0.5F), 0.0F);
  EXPECT_EQ(round_half_even(-1.5F), -2.0F);
  EXPECT_EQ(round_half_even(-2.5F), -2.0F);
  EXPECT_EQ(round_half_even(0.49999997F), 0.0F);
  EXPECT_EQ(round_half_even(8388609.0F), 8388609.0F);
}

TEST(Quantize, test_onnx_quantize_linear_vector) {
  const float reals[] = {0.0F, 2.0F, 3.0F, 1000.0F, -254.0F, -1000.0F};
  const int32_t codes[] = {128, 129, 130, 255, 1, 0};  // 3 / 2 = 1.5 rounds to 2
  for (int i = 0; i < 6; ++i) EXPECT_EQ(quantize(reals[i], 2.0F, 128, 0, 255), codes[i]) << reals[i];
}

TEST(Quantize, test_max_abs_of_a_small_row) {
  // scale = 5 / 127; -2.5 is -63.5 steps (even: -64), 1.3 is 33.02, 0.02 is 0.508.
  const float scale = 5.0F / 127.0F;
  EXPECT_EQ(quantize(5.0F, scale, 0, -127, 127), 127);
  EXPECT_EQ(quantize(-5.0F, scale, 0, -127, 127), -127);
  EXPECT_EQ(quantize(1.3F, scale, 0, -127, 127), 33);
  EXPECT_EQ(quantize(0.02F, scale, 0, -127, 127), 1);
  EXPECT_EQ(quantize(0.0F, scale, 0, -127, 127), 0);
}

TEST(Quantize, test_values_beyond_int32_clamp) {
  EXPECT_EQ(quantize(3e38F, 1e-3F, 3, 0, 255), 255);
  EXPECT_EQ(quantize(-3e38F, 1e-3F, 3, 0, 255), 0);
  EXPECT_EQ(quantize(2147483648.0F, 1.0F, 0, -128, 127), 127);
  EXPECT_EQ(quantize(kInfinity, 1.0F, -5, -128, 127), 127);
  EXPECT_EQ(quantize(-kInfinity, 1.0F, -5, -128, 127), -128);
}

TEST(Quantize, test_nan_becomes_the_zero_point) {
  EXPECT_EQ(quantize(kNan, 0.1F, 17, 0, 255), 17);
  EXPECT_EQ(quantize(kNan, 0.1F, 0, 3, 255), 3);
}

TEST(Quantize, test_divides_where_the_inverse_would_round_elsewhere) {
  // 1.55 / 0.1 is 15.499999 in float32; times the inverse it is 15.5, which would round to 16.
  EXPECT_EQ(1.55F * (1.0F / 0.1F), 15.5F);
  EXPECT_EQ(quantize(1.55F, 0.1F, 0, 0, 255), 15);
}

TEST(Dequantize, test_onnx_dequantize_linear_vector) {
  EXPECT_EQ(dequantize(0, 2.0F, 128), -256.0F);
  EXPECT_EQ(dequantize(3, 2.0F, 128), -250.0F);
  EXPECT_EQ(dequantize(128, 2.0F, 128), 0.0F);
  EXPECT_EQ(dequantize(255, 2.0F, 128), 254.0F);
}

TEST(Dequantize, test_int32_difference_does_not_wrap) {
  EXPECT_EQ(dequantize(std::numeric_limits<int32_t>::min(), 1.0F, 128), -2147483776.0F);
  EXPECT_EQ(dequantize(std::numeric_limits<int32_t>::max(), 1.0F, -128), 2147483776.0F);
}

TEST(FakeQuantize, test_saturates_infinities_and_keeps_nan) {
  EXPECT_EQ(fake_quantize(kInfinity, 0.5F, 2, 0, 15), 6.5F);
  EXPECT_EQ(fake_quantize(-kInfinity, 0.5F, 2, 0, 15), -1.0F);
  EXPECT_TRUE(std::isnan(fake_quantize(kNan, 0.5F, 2, 0, 15)));
  EXPECT_EQ(fake_quantize(0.75F, 0.5F, 2, 0, 15), 1.0F);
  EXPECT_FALSE(std::signbit(fake_quantize(-0.1F, 0.5F, 2, 0, 15)));
}

TEST(Activate, test_hand_computed_values) {
  ActivationArgs args{.kind = Activation::kClip, .low = 0.0F, .high = 6.0F};
  EXPECT_EQ(activate(-3.0F, args, 0), 0.0F);
  EXPECT_EQ(activate(7.0F, args, 0), 6.0F);
  EXPECT_EQ(activate(2.5F, args, 0), 2.5F);
  args = {.kind = Activation::kLeakyRelu, .slope = 0.25F};
  EXPECT_EQ(activate(-8.0F, args, 0), -2.0F);
  EXPECT_EQ(activate(8.0F, args, 0), 8.0F);
  const float slopes[] = {0.5F, 0.125F};
  args = {.kind = Activation::kPrelu, .slopes = slopes};
  EXPECT_EQ(activate(-8.0F, args, 1), -1.0F);
  args = {.kind = Activation::kHardsigmoid, .high = 4.0F, .slope = 0.25F, .offset = 2.0F};
  EXPECT_EQ(activate(-9.0F, args, 0), 0.0F);
  EXPECT_EQ(activate(2.0F, args, 0), 2.5F);
  EXPECT_EQ(activate(100.0F, args, 0), 4.0F);
  args = {.kind = Activation::kHardswish, .slope = 0.125F};
  EXPECT_EQ(activate(2.0F, args, 0), 1.5F);
  EXPECT_EQ(activate(-16.0F, args, 0), 0.0F);
  EXPECT_EQ(activate(16.0F, args, 0), 16.0F);
}

TEST(TailValue, test_bias_scale_residual_activation_in_that_order) {
  const int32_t bias[] = {0, 10};
  const float multiplier[] = {1.0F, 0.5F};
  const uint8_t residual[] = {0, 0, 7};
  Tail tail;
  tail.bias = bias;
  tail.multiplier = multiplier;
  EXPECT_EQ(tail_value(-30, tail, 1, 2), -10.0F);
  tail.residual = residual;
  tail.residual_zero_point = 3;
  tail.residual_multiplier = 0.25F;
  EXPECT_EQ(tail_value(-30, tail, 1, 2), -9.0F);
  tail.activation = {.kind = Activation::kClip, .low = 0.0F, .high = kInfinity};
  EXPECT_EQ(tail_value(-30, tail, 1, 2), 0.0F);
  EXPECT_EQ(tail_value(30, tail, 1, 2), 21.0F);
}

TEST(RequantizeMultiplier, test_is_rounded_after_the_product) {
  EXPECT_EQ(requantize_multiplier(0.5F, 0.25F, 2.0F), 0.0625F);
  const float product = 0.1F * 0.3F;
  EXPECT_EQ(requantize_multiplier(0.1F, 0.3F, 0.7F), product / 0.7F);
}

TEST(SumLanes, test_adds_as_a_binary_tree) {
  // Left to right the ones would drown in 2^53 one by one; the tree first pairs lane i with i + 8.
  double lanes[16] = {};
  lanes[0] = 9007199254740992.0;
  lanes[1] = 1.0;
  lanes[9] = 1.0;
  EXPECT_EQ(sum_lanes(lanes), 9007199254740994.0);
}

TEST(ShiftHalfToEven, test_ties_go_to_the_even_neighbour) {
  EXPECT_EQ(shift_half_to_even(3, 1), 2);
  EXPECT_EQ(shift_half_to_even(5, 1), 2);
  EXPECT_EQ(shift_half_to_even(-1, 1), 0);
  EXPECT_EQ(shift_half_to_even(-3, 1), -2);
  EXPECT_EQ(shift_half_to_even(-5, 1), -2);
  EXPECT_EQ(shift_half_to_even(-7, 2), -2);
  EXPECT_EQ(shift_half_to_even(7, 0), 7);
}

TEST(ShiftHalfToEven, test_largest_numbers_and_shifts) {
  constexpr int64_t kLowest = std::numeric_limits<int64_t>::min();
  constexpr int64_t kHighest = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(shift_half_to_even(kLowest, 0), kLowest);
  EXPECT_EQ(shift_half_to_even(kHighest, 0), kHighest);
  EXPECT_EQ(shift_half_to_even(kLowest, kMostPlaces), -2);
  EXPECT_EQ(shift_half_to_even(kHighest, kMostPlaces), 2);
  EXPECT_EQ(shift_half_to_even(int64_t{3} << (kMostPlaces - 1), kMostPlaces), 2);
  EXPECT_EQ(shift_half_to_even(int64_t{1} << (kMostPlaces - 1), kMostPlaces), 0);
}

}  // namespace
}  // namespace ptqx::kernels
