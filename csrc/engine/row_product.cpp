#include "engine/row_product.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace ptqx::engine {
namespace {

using kernels::kGemmMaxNr;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// With d = 128 - b_zero_point and signed codes s = b - 128 in the panels,
//   sum = (sum of a s) - a_zero_point * ((sum of s) + d * depth)   what a column begins with
//                      + d * (sum of a)                            what a row adds
// The whole fits int32; parts of it may not.
int32_t shift_of(const RowProductCodes& codes) { return 128 - codes.b_zero_point; }

int32_t wrapping_sum(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
}

}  // namespace

RowProduct::RowProduct(RowProductShape shape, const RowProductCodes& codes)
    : shape_(shape),
      codes_(codes),
      gemm_(&kernels::best_row(kernels::gemm_u8s8_rows())),
      tail_(&kernels::best_row(kernels::conv_tail_rows())),
      dwords_(ceil_div(shape.depth, 4)),
      nr_(kernels::gemm_panel_width(gemm_->isa, shape.columns)),
      panels_(ceil_div(shape.columns, nr_)) {}

size_t RowProduct::packed_bytes() const {
  return static_cast<size_t>(panels_) * (panel_bytes() + static_cast<size_t>(nr_) * sizeof(int32_t));
}

void RowProduct::pack(const uint8_t* b, int64_t panel, uint8_t* packed) const {
  uint8_t* const codes = packed + static_cast<size_t>(panel) * panel_bytes();
  auto* const begin =
      reinterpret_cast<int32_t*>(packed + static_cast<size_t>(panels_) * panel_bytes()) + panel * nr_;
  const int64_t whole = shape_.depth / 4;
  const int64_t columns = std::min(shape_.columns - panel * nr_, nr_);
  std::memset(codes, 0, panel_bytes());
  std::fill(begin, begin + nr_, 0);
  for (int64_t j = 0; j < columns; ++j) {
    const uint8_t* row = b + (panel * nr_ + j) * shape_.depth;
    int32_t total = 0;
    for (int64_t k = 0; k < shape_.depth; ++k) total += row[k];
    const auto centered = total - codes_.b_zero_point * static_cast<int32_t>(shape_.depth);
    begin[j] = -codes_.a_zero_point * centered;
    uint8_t* column = codes + j * 4;
    for (int64_t dword = 0; dword < whole; ++dword) {
      uint32_t four;
      std::memcpy(&four, row + dword * 4, 4);
      four ^= 0x80808080U;
      std::memcpy(column + dword * nr_ * 4, &four, 4);
    }
    for (int64_t k = whole * 4; k < shape_.depth; ++k) column[whole * nr_ * 4 + k % 4] = row[k] ^ 0x80U;
  }
}

void RowProduct::run(const uint8_t* a, int64_t rows, const uint8_t* packed, void* y) const {
  std::array<float, kGemmMaxNr> multipliers;
  multipliers.fill(codes_.multiplier);
  kernels::Tail tail;
  tail.output = codes_.to_real ? kernels::Output::kF32 : kernels::Output::kU8;
  tail.multiplier = multipliers.data();
  tail.output_zero_point = codes_.zero_point;
  tail.qmin = codes_.qmin;
  tail.qmax = codes_.qmax;
  const kernels::GemmRun whole_depth = {.input = 0, .weight = 0, .dwords = dwords_};
  const auto* begin = reinterpret_cast<const int32_t*>(packed + static_cast<size_t>(panels_) * panel_bytes());
  alignas(64) int32_t sums[kChunkRows * kGemmMaxNr];
  std::array<const uint8_t*, kChunkRows> pixels;
  std::array<int32_t*, kChunkRows> sums_of_row;
  std::array<int32_t, kChunkRows> of_row;
  std::array<int64_t, kChunkRows> places;
  for (int64_t i = 0; i < kChunkRows; ++i) sums_of_row[static_cast<size_t>(i)] = sums + i * nr_;

  for (int64_t first = 0; first < rows; first += kChunkRows) {
    const int64_t m = std::min(rows - first, kChunkRows);
    for (int64_t i = 0; i < m; ++i) {
      const uint8_t* row = a + (first + i) * shape_.depth;
      int32_t total = 0;
      for (int64_t k = 0; k < shape_.depth; ++k) total += row[k];
      pixels[static_cast<size_t>(i)] = row;
      of_row[static_cast<size_t>(i)] = shift_of(codes_) * total;
    }
    for (int64_t panel = 0; panel < panels_; ++panel) {
      for (int64_t i = 0; i < m; ++i) {
        places[static_cast<size_t>(i)] = (first + i) * shape_.columns + panel * nr_;
        const int32_t start = of_row[static_cast<size_t>(i)];
        for (int64_t j = 0; j < nr_; ++j) sums[i * nr_ + j] = wrapping_sum(begin[panel * nr_ + j], start);
      }
      gemm_->function({.pixels = pixels.data(),
                       .m = m,
                       .runs = &whole_depth,
                       .run_count = 1,
                       .panel = reinterpret_cast<const int8_t*>(packed) + panel * dwords_ * nr_ * 4,
                       .nr = nr_,
                       .init = nullptr,
                       .acc = nullptr,
                       .acc_rows = sums_of_row.data(),
                       .tail = nullptr,
                       .tail_args = nullptr});
      const kernels::ConvTailArgs args = {.tail = &tail,
                                          .channel = 0,
                                          .channels = std::min(shape_.columns - panel * nr_, nr_),
                                          .places = places.data(),
                                          .pixel_scale = nullptr,
                                          .output = y,
                                          .scaled = false};
      tail_->function(args, sums, 0, m, nr_);
    }
  }
}

}  // namespace ptqx::engine
