#include "kernels/pointwise.h"

#include "kernel_rows.h"
#include "kernels/arith.h"

namespace ptqx::kernels {
namespace {

const float kSlope = 0.3F;

std::vector<PointwiseTail> tails() {
  const std::vector<ActivationArgs> activations = {
      {.kind = Activation::kNone},
      {.kind = Activation::kClip, .low = 0.0F, .high = infinity()},
      {.kind = Activation::kClip, .low = -4.5F, .high = 90.25F},
      {.kind = Activation::kLeakyRelu, .slope = 0.1F},
      {.kind = Activation::kPrelu, .slopes = &kSlope},
      {.kind = Activation::kHardsigmoid, .high = 200.0F, .slope = 1.0F / 6.0F, .offset = 100.0F},
      {.kind = Activation::kHardswish, .slope = 0.02F / 6.0F},
  };
  std::vector<PointwiseTail> all;
  for (const ActivationArgs& activation : activations) {
    for (int32_t zero_point : {0, 117, 255}) all.push_back({activation, zero_point, 0, 255});
    all.push_back({activation, 7, 0, 15});
  }
  return all;
}

/// Multipliers that make ordinary results, exact ties, saturation and (with infinity) NaN.
const std::vector<float> kMultipliers = {0.5F, 0.0371F, 1e20F, std::numeric_limits<float>::infinity()};

struct Operands {
  std::vector<uint8_t> a, b;
};
Operands operands(int64_t n) {
  return {random_codes<uint8_t>(n, 0, 255, 1), random_codes<uint8_t>(n, 0, 255, 2)};
}

TEST(AddRows, test_every_length_and_tail_equals_the_scalar_truth) {
  for (int64_t n : kLengths) {
    const Operands x = operands(n);
    for (const PointwiseTail& tail : tails()) {
      for (float multiplier : kMultipliers) {
        SCOPED_TRACE(std::to_string(n) + " elements, activation " +
                     std::to_string(static_cast<int>(tail.activation.kind)));
        GuardedBuffer<uint8_t> truth(n);
        add_u8_rows().front().function(x.a.data(), 3, multiplier, x.b.data(), 250, 0.25F, n, tail,
                                       truth.data());
        for_each_vector_row(add_u8_rows(), [&](AddU8Fn* add) {
          GuardedBuffer<uint8_t> y(n, 3);
          add(x.a.data(), 3, multiplier, x.b.data(), 250, 0.25F, n, tail, y.data());
          expect_same(truth.values(), y.values());
          ASSERT_TRUE(y.guards_intact());
        });
      }
    }
  }
}

TEST(AddRows, test_hand_computed_sums) {
  const std::vector<uint8_t> a = {10, 10, 11, 255, 0};
  const std::vector<uint8_t> b = {4, 5, 5, 255, 0};
  // (a - 10) * 0.5 + (b - 4) * 0.25, plus zero point 100.
  const std::vector<uint8_t> y = {100, 100, 101, 255, 94};
  const PointwiseTail tail{{}, 100, 0, 255};
  for (const Row<AddU8Fn>& row : add_u8_rows()) {
    if (!isa_supported(row.isa)) continue;
    std::vector<uint8_t> sum(5);
    row.function(a.data(), 10, 0.5F, b.data(), 4, 0.25F, 5, tail, sum.data());
    EXPECT_EQ(sum, y) << row.name;
  }
}

TEST(AddFixedPointRows, test_every_length_equals_the_scalar_truth) {
  const AddFixedPointArgs kArgs[] = {{3, 1 << 29, 250, 1, 30, 0, 0, 255},
                                     {0, 1, 0, 1, 1, 7, 3, 240},
                                     {255, 123456789, 0, 1073741823, 31, 128, 128, 255},
                                     {128, INT32_MAX, 128, INT32_MAX, 62, 4, 0, 15},
                                     {1, 5, 1, 7, 0, 200, 0, 255}};
  for (const int64_t n : kLengths) {
    const Operands x = operands(n);
    for (const AddFixedPointArgs& args : kArgs) {
      SCOPED_TRACE(std::to_string(n) + " elements, shift " + std::to_string(args.shift));
      GuardedBuffer<uint8_t> truth(n);
      add_fixed_point_u8_rows().front().function(x.a.data(), x.b.data(), n, args, truth.data());
      for_each_vector_row(add_fixed_point_u8_rows(), [&](AddFixedPointU8Fn* add) {
        GuardedBuffer<uint8_t> y(n, 3);
        add(x.a.data(), x.b.data(), n, args, y.data());
        expect_same(truth.values(), y.values());
        ASSERT_TRUE(y.guards_intact());
      });
    }
  }
}

TEST(AddFixedPointRows, test_hand_computed_sums) {
  const std::vector<uint8_t> a = {10, 12, 14, 255, 0, 10, 10, 10, 11};
  const std::vector<uint8_t> b = {4, 4, 4, 255, 0, 5, 6, 7, 5};
  // ((a - 10) + 2 * (b - 4)) / 4, half to even, plus zero point 100, 98 to 160.
  const std::vector<uint8_t> y = {100, 100, 101, 160, 98, 100, 101, 102, 101};
  for (const Row<AddFixedPointU8Fn>& row : add_fixed_point_u8_rows()) {
    if (!isa_supported(row.isa)) continue;
    std::vector<uint8_t> sum(a.size());
    row.function(a.data(), b.data(), std::ssize(a), {10, 1, 4, 2, 2, 100, 98, 160}, sum.data());
    EXPECT_EQ(sum, y) << row.name;
  }
}

TEST(MulRows, test_every_length_and_tail_equals_the_scalar_truth) {
  for (int64_t n : kLengths) {
    const Operands x = operands(n);
    for (const PointwiseTail& tail : tails()) {
      for (float multiplier : kMultipliers) {
        SCOPED_TRACE(std::to_string(n) + " elements, activation " +
                     std::to_string(static_cast<int>(tail.activation.kind)));
        GuardedBuffer<uint8_t> truth(n);
        mul_u8_rows().front().function(x.a.data(), 3, x.b.data(), 250, multiplier, n, tail, truth.data());
        for_each_vector_row(mul_u8_rows(), [&](MulU8Fn* mul) {
          GuardedBuffer<uint8_t> y(n, 3);
          mul(x.a.data(), 3, x.b.data(), 250, multiplier, n, tail, y.data());
          expect_same(truth.values(), y.values());
          ASSERT_TRUE(y.guards_intact());
        });
      }
    }
  }
}

TEST(MulChannels, test_repeats_the_row_of_channels_at_every_pixel) {
  for (int64_t c : {1, 5, 16, 40}) {
    const Operands x = operands(7 * c);
    const PointwiseTail tail{{}, 5, 0, 255};
    std::vector<uint8_t> y(static_cast<size_t>(7 * c));
    mul_u8_channels(x.a.data(), 3, x.b.data(), 8, 0.01F, 7, c, tail, y.data());
    for (int64_t i = 0; i < 7 * c; ++i) {
      const int32_t product = (x.a[static_cast<size_t>(i)] - 3) * (x.b[static_cast<size_t>(i % c)] - 8);
      ASSERT_EQ(y[static_cast<size_t>(i)], round_and_clamp(static_cast<float>(product) * 0.01F, 5, 0, 255))
          << i;
    }
  }
}

TEST(LookupRows, test_every_code_finds_its_entry) {
  std::vector<uint8_t> table(256);
  for (size_t code = 0; code < 256; ++code) table[code] = static_cast<uint8_t>(code * 167 + 91);
  std::vector<uint8_t> codes(256);
  for (size_t code = 0; code < 256; ++code) codes[code] = static_cast<uint8_t>(255 - code);
  std::vector<uint8_t> more = random_codes<uint8_t>(1000, 0, 255);
  codes.insert(codes.end(), more.begin(), more.end());
  for (const Row<LookupU8Fn>& row : lookup_u8_rows()) {
    if (!isa_supported(row.isa)) continue;
    SCOPED_TRACE(row.name);
    for (int64_t n : kLengths) {
      GuardedBuffer<uint8_t> y(n);
      row.function(codes.data(), n, table.data(), y.data());
      for (int64_t i = 0; i < n; ++i) ASSERT_EQ(y.data()[i], table[codes[static_cast<size_t>(i)]]) << i;
      ASSERT_TRUE(y.guards_intact());
    }
  }
}

TEST(FlipSignRows, test_maps_int8_codes_to_uint8_and_back) {
  const std::vector<int8_t> codes = random_codes<int8_t>(1000, -128, 127);
  for (const Row<FlipSignU8Fn>& row : flip_sign_u8_rows()) {
    if (!isa_supported(row.isa)) continue;
    SCOPED_TRACE(row.name);
    for (int64_t n : kLengths) {
      GuardedBuffer<uint8_t> y(n);
      row.function(reinterpret_cast<const uint8_t*>(codes.data()), n, y.data());
      for (int64_t i = 0; i < n; ++i) ASSERT_EQ(y.data()[i], codes[static_cast<size_t>(i)] + 128) << i;
      ASSERT_TRUE(y.guards_intact());
    }
  }
}

}  // namespace
}  // namespace ptqx::kernels
