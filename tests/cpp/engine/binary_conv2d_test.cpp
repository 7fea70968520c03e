// Binary layers against sums of +1 and -1 written out, on every instruction set and several thread counts.

#include <gtest/gtest.h>

#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/conv2d.h"
#include "engine/conv2d_case.h"
#include "kernels/pack.h"

namespace ptqx::engine {
namespace {

struct BinaryCase {
  int64_t channels, out_channels, kernel, n, size, stride = 1, pad = 1, dilation = 1;
};

/// [pixels][signs] of +1 and -1 and the same packed.
struct Signs {
  Signs(int64_t pixels, int64_t signs, uint32_t seed) : values(static_cast<size_t>(pixels * signs)) {
    std::mt19937 random(seed);
    for (float& value : values) value = random() % 2 == 0 ? 1.0F : -1.0F;
    const int64_t bytes = (signs + 31) / 32 * 4;
    packed.resize(static_cast<size_t>(pixels * bytes));
    for (int64_t p = 0; p < pixels; ++p) {
      kernels::pack_signs(values.data() + p * signs, signs, packed.data() + p * bytes);
    }
  }
  std::vector<float> values;
  std::vector<uint8_t> packed;
};

Conv2dShape shape_of(const BinaryCase& c, int64_t in_channels) {
  return {.in_channels = in_channels,
          .out_channels = c.out_channels,
          .kernel_h = c.kernel,
          .kernel_w = c.kernel,
          .stride_h = c.stride,
          .stride_w = c.stride,
          .pad_top = c.pad,
          .pad_left = c.pad,
          .pad_bottom = c.pad,
          .pad_right = c.pad,
          .dilation_h = c.dilation,
          .dilation_w = c.dilation};
}

/// Weights are [out_channels][kernel][kernel][channels] here; PackedConv2d takes OIHW.
std::vector<int32_t> expected(const BinaryCase& c, const Signs& x, const Signs& w,
                              const std::vector<int32_t>& bias) {
  const Conv2dShape s = shape_of(c, c.channels);
  const int64_t out = s.output_h(c.size);
  std::vector<int32_t> y;
  for (int64_t n = 0; n < c.n; ++n) {
    for (int64_t pixel = 0; pixel < out * out; ++pixel) {
      for (int64_t oc = 0; oc < c.out_channels; ++oc) {
        int32_t sum = bias[static_cast<size_t>(oc)];
        for (int64_t tap = 0; tap < c.kernel * c.kernel; ++tap) {
          const int64_t h = pixel / out * c.stride - c.pad + tap / c.kernel * c.dilation;
          const int64_t v = pixel % out * c.stride - c.pad + tap % c.kernel * c.dilation;
          if (h < 0 || h >= c.size || v < 0 || v >= c.size) continue;
          const float* a = x.values.data() + ((n * c.size + h) * c.size + v) * c.channels;
          const float* b = w.values.data() + (oc * c.kernel * c.kernel + tap) * c.channels;
          for (int64_t i = 0; i < c.channels; ++i) sum += static_cast<int32_t>(a[i] * b[i]);
        }
        y.push_back(sum);
      }
    }
  }
  return y;
}

std::vector<uint8_t> to_oihw(const std::vector<uint8_t>& ohwi, int64_t out_channels, int64_t taps) {
  std::vector<uint8_t> oihw(ohwi.size());
  const auto o_count = static_cast<size_t>(out_channels);
  const auto tap_count = static_cast<size_t>(taps);
  const size_t bytes = ohwi.size() / o_count / tap_count;
  for (size_t o = 0; o < o_count; ++o) {
    for (size_t tap = 0; tap < tap_count; ++tap) {
      for (size_t b = 0; b < bytes; ++b)
        oihw[(o * bytes + b) * tap_count + tap] = ohwi[(o * tap_count + tap) * bytes + b];
    }
  }
  return oihw;
}

void expect_exact(const BinaryCase& c) {
  const Signs x(c.n * c.size * c.size, c.channels, 1);
  const Signs w(c.out_channels * c.kernel * c.kernel, c.channels, 2);
  std::vector<int32_t> bias;
  for (int32_t oc = 0; oc < c.out_channels; ++oc) bias.push_back(oc * 7 - 100);
  const std::vector<int32_t> want = expected(c, x, w, bias);
  const Conv2dShape shape = shape_of(c, (c.channels + 31) / 32 * 4);
  const std::vector<uint8_t> weight = to_oihw(w.packed, c.out_channels, c.kernel * c.kernel);
  const IsaGuard guard;
  for (const kernels::Isa isa : supported_isas()) {
    kernels::set_isa_ceiling(isa);
    const PackedConv2d packed = PackedConv2d::binary(shape, weight.data(), c.channels);
    for (const int threads : {1, 3}) {
      SCOPED_TRACE(std::string(packed.kernel_name()) + ", " + std::to_string(c.channels) + " channels to " +
                   std::to_string(c.out_channels));
      std::vector<int32_t> y(want.size());
      Conv2dCall call{.n = c.n, .h = c.size, .w = c.size, .tail = {}};
      call.tail.output = kernels::Output::kS32;
      call.tail.bias = bias.data();
      conv2d(packed, call, {.input = x.packed.data(), .output = y.data()}, ThreadExecutor(threads));
      ASSERT_EQ(y, want);
    }
  }
}

TEST(BinaryConv2d, EveryRowEqualsTheDefinition) {
  for (const int64_t channels : {1, 31, 32, 33, 64, 100, 256}) {
    for (const int64_t out_channels : {1, 16, 65}) {
      expect_exact({.channels = channels, .out_channels = out_channels, .kernel = 3, .n = 2, .size = 5});
      if (testing::Test::HasFailure()) return;
    }
  }
}

TEST(BinaryConv2d, EveryGeometryEqualsTheDefinition) {
  expect_exact({.channels = 40, .out_channels = 20, .kernel = 1, .n = 3, .size = 7, .pad = 0});
  expect_exact({.channels = 40, .out_channels = 20, .kernel = 3, .n = 1, .size = 9, .stride = 2});
  expect_exact({.channels = 40, .out_channels = 20, .kernel = 3, .n = 1, .size = 9, .pad = 2, .dilation = 2});
  expect_exact({.channels = 4096, .out_channels = 33, .kernel = 1, .n = 5, .size = 1, .pad = 0});
  // Tap by tap.
  expect_exact({.channels = 2048, .out_channels = 64, .kernel = 3, .n = 1, .size = 2});
}

TEST(BinaryConv2d, RejectsWhatItCannotMultiply) {
  const std::vector<uint8_t> weight(64, 1);
  const auto pack = [&](Conv2dShape shape, int64_t signs) {
    PackedConv2d::binary(shape, weight.data(), signs);
  };
  EXPECT_NO_THROW(pack(linear_shape(8, 8), 33));
  EXPECT_THROW(pack(linear_shape(8, 8), 32), std::invalid_argument);
  EXPECT_THROW(pack(linear_shape(8, 8), 65), std::invalid_argument);
  EXPECT_THROW(pack(linear_shape(5, 8), 40), std::invalid_argument);
  EXPECT_THROW(pack({.in_channels = 8, .out_channels = 8, .kernel_h = 1, .kernel_w = 1, .groups = 2}, 64),
               std::invalid_argument);
  const PackedConv2d packed = PackedConv2d::binary(linear_shape(8, 8), weight.data(), 64);
  const Conv2dCall call{.n = 1, .h = 1, .w = 1, .input_zero_point = 3, .tail = {}};
  EXPECT_THROW(Conv2dPlan(packed, call, 1), std::invalid_argument);
}

}  // namespace
}  // namespace ptqx::engine
