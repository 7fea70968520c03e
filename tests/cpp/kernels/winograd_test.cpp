#include "kernels/winograd.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "kernel_rows.h"

namespace ptqx::kernels {
namespace {

constexpr int64_t kPad = 32;  // int16 between positions, so that these need not follow one another

/// Values on a cache line.
template <class T>
class Aligned {
 public:
  explicit Aligned(int64_t size) : storage_(static_cast<size_t>(size) + 64 / sizeof(T)), size_(size) {}
  T* data() {
    const auto address = reinterpret_cast<uintptr_t>(storage_.data());
    return storage_.data() + (64 - address % 64) % 64 / sizeof(T);
  }
  std::vector<T> values() { return {data(), data() + size_}; }

 private:
  std::vector<T> storage_;
  int64_t size_;
};

template <class T>
std::vector<T> random_values(int64_t size, int64_t low, int64_t high) {
  std::mt19937 random(3);
  std::uniform_int_distribution<int64_t> uniform(low, high);
  std::vector<T> values(static_cast<size_t>(size));
  for (T& value : values) value = static_cast<T>(uniform(random));
  return values;
}

/// Codes of 8 x 8 pixels, of which the patch begins at the second of the second row.
std::vector<int16_t> transformed_input(WinogradInputFn* transform, const std::vector<uint8_t>& codes,
                                       int64_t channels) {
  const int64_t step = channels + kPad;
  GuardedBuffer<int16_t> output(kWinogradPositions * step);
  transform({.codes = codes.data() + 9 * channels,
             .row_step = 8 * channels,
             .pixel_step = channels,
             .channels = channels,
             .output = output.data(),
             .position_step = step});
  EXPECT_TRUE(output.guards_intact());
  return output.values();
}

std::vector<int16_t> transformed_weight(WinogradWeightFn* transform, const std::vector<int8_t>& codes,
                                        int64_t dwords, int64_t codes_per_byte, int64_t column,
                                        int64_t columns) {
  Aligned<int8_t> panel(9 * dwords / codes_per_byte * 64 * 4);
  std::copy_n(codes.begin(), 9 * dwords / codes_per_byte * 64 * 4, panel.data());
  const int64_t step = dwords * columns * 4 + kPad;
  Aligned<int16_t> output(kWinogradPositions * step);
  transform({.panel = panel.data(),
             .dwords = dwords,
             .row_dwords = 3 * dwords,
             .nr = 64,
             .codes_per_byte = codes_per_byte,
             .column = column,
             .columns = columns,
             .output = output.data(),
             .position_step = step});
  return output.values();
}

std::vector<int32_t> transformed_output(WinogradOutputFn* transform, const std::vector<int32_t>& products,
                                        int64_t columns) {
  const std::vector<int32_t> init = random_values<int32_t>(columns, -1000, 1000);
  GuardedBuffer<int32_t> output(16 * columns);
  transform({.products = products.data(),
             .position_step = columns + kPad,
             .columns = columns,
             .init = init.data(),
             .output = output.data()});
  EXPECT_TRUE(output.guards_intact());
  return output.values();
}

TEST(WinogradTest, InputRowsEqualTheScalarOne) {
  for_each_vector_row(winograd_input_rows(), [](WinogradInputFn* transform) {
    for (const int64_t channels : {16, 32, 48, 64, 80, 128, 240}) {
      for (const int64_t least : {0, 255}) {
        const auto codes = random_values<uint8_t>(64 * channels, least, 255);
        expect_same(transformed_input(winograd_input_scalar, codes, channels),
                    transformed_input(transform, codes, channels));
      }
    }
  });
}

TEST(WinogradTest, WeightRowsEqualTheScalarOne) {
  for_each_vector_row(winograd_weight_rows(), [](WinogradWeightFn* transform) {
    const auto codes = random_values<int8_t>(9 * 12 * 64 * 4, -128, 127);
    for (const int64_t codes_per_byte : {1, 2}) {
      for (const int64_t dwords : {4, 12}) {
        for (const auto& [column, columns] :
             {std::pair<int64_t, int64_t>{0, 64}, {32, 32}, {16, 48}, {48, 16}}) {
          expect_same(
              transformed_weight(winograd_weight_scalar, codes, dwords, codes_per_byte, column, columns),
              transformed_weight(transform, codes, dwords, codes_per_byte, column, columns));
        }
      }
    }
  });
}

TEST(WinogradTest, OutputRowsEqualTheScalarOne) {
  for_each_vector_row(winograd_output_rows(), [](WinogradOutputFn* transform) {
    for (const int64_t columns : {16, 32, 48, 64}) {
      const auto products =
          random_values<int32_t>(kWinogradPositions * (columns + kPad), INT32_MIN, INT32_MAX);
      expect_same(transformed_output(winograd_output_scalar, products, columns),
                  transformed_output(transform, products, columns));
    }
  });
}

/// One output channel, by the scalar rows, against the sums as they are defined.
void expect_convolution(const std::vector<uint8_t>& codes, const std::vector<int8_t>& weight,
                        int64_t channels) {
  const int64_t dwords = channels / 4;
  std::vector<int8_t> panel(static_cast<size_t>(9 * channels * 64));
  for (int64_t tap = 0; tap < 9; ++tap) {
    for (int64_t c = 0; c < channels; ++c) {
      panel[static_cast<size_t>(((tap * dwords + c / 4) * 64) * 4 + c % 4)] =
          weight[static_cast<size_t>(tap * channels + c)];
    }
  }
  const auto v = transformed_input(winograd_input_scalar, codes, channels);
  const auto u = transformed_weight(winograd_weight_scalar, panel, dwords, 1, 0, 16);
  std::vector<int32_t> products(static_cast<size_t>(kWinogradPositions * (16 + kPad)), 0);
  const int64_t half = channels / 2;
  for (int64_t p = 0; p < kWinogradPositions; ++p) {
    uint32_t sum = 0;
    for (int64_t i = 0; i < channels; ++i) {
      const int64_t dword = i % half / 2;
      const int64_t place = ((i / half * dwords + dword) * 16) * 2 + i % 2;
      sum += static_cast<uint32_t>(v[static_cast<size_t>(p * (channels + kPad) + i)] *
                                   u[static_cast<size_t>(p * (dwords * 64 + kPad) + place)]);
    }
    products[static_cast<size_t>(p * (16 + kPad))] = static_cast<int32_t>(sum);
  }
  const auto y = transformed_output(winograd_output_scalar, products, 16);
  const int32_t init = random_values<int32_t>(16, -1000, 1000)[0];
  for (int64_t pixel = 0; pixel < 16; ++pixel) {
    int64_t sum = init;
    for (int64_t tap = 0; tap < 9; ++tap) {
      const int64_t row = 1 + pixel / 4 + tap / 3, column = 1 + pixel % 4 + tap % 3;
      for (int64_t c = 0; c < channels; ++c) {
        sum += codes[static_cast<size_t>((row * 8 + column) * channels + c)] *
               weight[static_cast<size_t>(tap * channels + c)];
      }
    }
    ASSERT_EQ(y[static_cast<size_t>(pixel * 16)], sum) << "pixel " << pixel;
  }
}

TEST(WinogradTest, ScalarRowsConvolve) {
  const auto codes = random_values<uint8_t>(64 * 64, 0, 255);
  expect_convolution(codes, random_values<int8_t>(9 * 64, -127, 127), 64);
}

// Largest sums of either sign that are in range: 9 * 80 * 255 * 128 < 2^25.
TEST(WinogradTest, LargestSumsAreExact) {
  const std::vector<uint8_t> codes(64 * 80, 255);
  expect_convolution(codes, std::vector<int8_t>(9 * 80, -128), 80);
  expect_convolution(codes, std::vector<int8_t>(9 * 80, 127), 80);
}

}  // namespace
}  // namespace ptqx::kernels
