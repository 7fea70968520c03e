#include "kernels/winograd.h"

namespace ptqx::kernels {
namespace {

constexpr int kB[6][6] = {{4, 0, -5, 0, 1, 0},  {0, 4, 4, -1, -1, 0}, {0, -4, 4, 1, -1, 0},
                          {0, -2, -1, 2, 1, 0}, {0, 2, -1, -2, 1, 0}, {0, 4, 0, -5, 0, 1}};
constexpr int kG[6][3] = {{6, 0, 0}, {4, 4, 4}, {4, -4, 4}, {1, 2, 4}, {1, -2, 4}, {0, 0, 6}};
constexpr int kAt[4][6] = {
    {1, 1, 1, 1, 1, 0}, {0, 1, -1, 2, -2, 0}, {0, 1, 1, 4, 4, 0}, {0, 1, -1, 8, -8, 4}};
constexpr uint32_t kInverseOf9 = 954437177;  // modulo 2^32
static_assert(9U * kInverseOf9 == 1U);

/// Element (row, column) of M x M^T, modulo 2^32.
template <int R, int C>
uint32_t element(const int (&m)[R][C], const int32_t (&x)[C][C], int64_t row, int64_t column) {
  uint32_t sum = 0;
  for (int i = 0; i < C; ++i) {
    for (int j = 0; j < C; ++j) {
      sum += static_cast<uint32_t>(m[row][i] * m[column][j]) * static_cast<uint32_t>(x[i][j]);
    }
  }
  return sum;
}

/// A code of a dword of the panel.
int code(const WinogradWeightArgs& args, int64_t tap, int64_t dword, int64_t column, int64_t byte) {
  const int64_t row = (tap / 3 * args.row_dwords + tap % 3 * args.dwords + dword) / args.codes_per_byte;
  const int value = args.panel[(row * args.nr + column) * 4 + byte];
  if (args.codes_per_byte == 1) return value;
  return (((dword % 2 == 0 ? value : value >> 4) & 0xF) ^ 8) - 8;
}

}  // namespace

void winograd_input_scalar(const WinogradInputArgs& args) {
  for (int64_t c = 0; c < args.channels; ++c) {
    int32_t d[6][6];
    for (int64_t row = 0; row < 6; ++row) {
      for (int64_t column = 0; column < 6; ++column) {
        d[row][column] = args.codes[row * args.row_step + column * args.pixel_step + c];
      }
    }
    const int64_t place = c % 2 * args.channels / 2 + c / 2;
    for (int64_t p = 0; p < kWinogradPositions; ++p) {
      args.output[p * args.position_step + place] = static_cast<int16_t>(element(kB, d, p / 6, p % 6));
    }
  }
}

void winograd_weight_scalar(const WinogradWeightArgs& args) {
  for (int64_t dword = 0; dword < args.dwords; ++dword) {
    for (int64_t j = 0; j < args.columns; ++j) {
      for (int64_t byte = 0; byte < 4; ++byte) {
        int32_t g[3][3];
        for (int64_t tap = 0; tap < 9; ++tap)
          g[tap / 3][tap % 3] = code(args, tap, dword, args.column + j, byte);
        const int64_t place = ((byte % 2 * args.dwords + dword) * args.columns + j) * 2 + byte / 2;
        for (int64_t p = 0; p < kWinogradPositions; ++p) {
          args.output[p * args.position_step + place] = static_cast<int16_t>(element(kG, g, p / 6, p % 6));
        }
      }
    }
  }
}

void winograd_output_scalar(const WinogradOutputArgs& args) {
  for (int64_t j = 0; j < args.columns; ++j) {
    int32_t m[6][6];
    for (int64_t p = 0; p < kWinogradPositions; ++p)
      m[p / 6][p % 6] = args.products[p * args.position_step + j];
    for (int64_t pixel = 0; pixel < 16; ++pixel) {
      const uint32_t sum64 = element(kAt, m, pixel / 4, pixel % 4) * kInverseOf9;
      const auto sum = static_cast<uint32_t>(static_cast<int32_t>(sum64) >> 6);
      args.output[pixel * args.columns + j] = static_cast<int32_t>(sum + static_cast<uint32_t>(args.init[j]));
    }
  }
}

}  // namespace ptqx::kernels
