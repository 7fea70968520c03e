#pragma once

// Random operands of one gemm call, checked against the scalar row.

#include <algorithm>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernel_rows.h"
#include "kernels/gemm.h"

namespace ptqx::kernels {

struct GemmFamily {
  GemmFn* truth;
  int64_t dwords_in_row;  // of the panel's memory
  int8_t extreme;         // with input 255, a byte of the largest sums
};
inline constexpr GemmFamily kU8S8{gemm_u8s8_scalar, 1, -128};
inline constexpr GemmFamily kU8S8Groups{gemm_u8s8_groups_scalar, 1, -128};
inline constexpr GemmFamily kBinary{gemm_binary_scalar, 1, 0};
inline constexpr GemmFamily kS16S16{gemm_s16s16_scalar, 1, -128};
inline constexpr GemmFamily kU8S4{gemm_u8s4_scalar, 2, static_cast<int8_t>(0x88)};

class GemmCase {
 public:
  /// Two runs of `rows` rows of the panel and one of a single row; pixels at odd addresses.
  GemmCase(const GemmFamily& family, int64_t m, int64_t nr, int64_t rows, bool extreme = false)
      : truth_(family.truth),
        m_(m),
        nr_(nr),
        input_(static_cast<size_t>(m * kPixelStep + family.dwords_in_row * (8 * rows + 4) + 16)),
        panel_(static_cast<size_t>((2 * rows + 1) * nr * 4)),
        init_(static_cast<size_t>(nr)) {
    std::mt19937 random(7);
    for (uint8_t& x : input_) x = extreme ? 255 : static_cast<uint8_t>(random());
    for (int64_t i = 0; i < panel_.size(); ++i)
      panel_.data()[i] = extreme ? family.extreme : static_cast<int8_t>(random());
    for (int32_t& x : init_) x = static_cast<int32_t>(random());
    for (int64_t i = 0; i < m; ++i) pixels_.push_back(input_.data() + i * kPixelStep);
    const int64_t dwords = rows * family.dwords_in_row;
    runs_ = {{1, 0, dwords}, {4 * dwords + 3, dwords, dwords}, {5, 2 * dwords, family.dwords_in_row}};
  }

  /// Instead, a run a row, of so many dwords, near enough to one another to overlap in the input.
  void use_taps(int64_t dwords) {
    const auto taps = static_cast<int64_t>(runs_[0].dwords);
    runs_.clear();
    for (int64_t tap = 0; tap < taps; ++tap) runs_.push_back({1 + 5 * tap, tap * dwords, dwords});
  }

  std::vector<int32_t> run(GemmFn* gemm) const {
    GuardedBuffer<int32_t> acc(m_ * nr_);
    gemm(args(acc.data(), nullptr, nullptr));
    EXPECT_TRUE(acc.guards_intact());
    return acc.values();
  }

  /// The accumulators as the tail sees them.
  std::vector<int32_t> run_with_tail(GemmFn* gemm) const {
    Tail tail;
    tail.output = Output::kS32;
    std::vector<int64_t> places;
    for (int64_t i = 0; i < m_; ++i) places.push_back((m_ - 1 - i) * nr_);
    GuardedBuffer<int32_t> output(m_ * nr_);
    const ConvTailArgs tail_args{.tail = &tail,
                                 .channel = 0,
                                 .channels = nr_,
                                 .places = places.data(),
                                 .pixel_scale = nullptr,
                                 .output = output.data(),
                                 .scaled = false};
    gemm(args(nullptr, conv_tail_scalar, &tail_args));
    EXPECT_TRUE(output.guards_intact());
    std::vector<int32_t> rows;
    for (int64_t i = 0; i < m_; ++i) {
      rows.insert(rows.end(), output.data() + places[static_cast<size_t>(i)],
                  output.data() + places[static_cast<size_t>(i)] + nr_);
    }
    return rows;
  }

  /// Codes of the first `channels` channels, by a tail whose clamping is saturation.
  std::vector<uint8_t> run_to_codes(GemmFn* gemm, int64_t channels, bool with_residual) const {
    std::vector<uint8_t> residual(static_cast<size_t>(m_ * nr_));
    std::iota(residual.begin(), residual.end(), uint8_t{3});
    std::vector<float> multiplier(static_cast<size_t>(channels));
    for (size_t i = 0; i < multiplier.size(); ++i) multiplier[i] = 1e-7F * static_cast<float>(i % 7 + 1);
    Tail tail;
    tail.multiplier = multiplier.data();
    tail.output_zero_point = 100;
    if (with_residual) {
      tail.residual = residual.data();
      tail.residual_multiplier = 0.7F;
      tail.residual_zero_point = 90;
    }
    std::vector<int64_t> places;
    for (int64_t i = 0; i < m_; ++i) places.push_back((m_ - 1 - i) * nr_);
    GuardedBuffer<uint8_t> output(m_ * nr_);
    const ConvTailArgs tail_args{.tail = &tail,
                                 .channel = 0,
                                 .channels = channels,
                                 .places = places.data(),
                                 .pixel_scale = nullptr,
                                 .output = output.data(),
                                 .scaled = false,
                                 .bounded = tail_is_bounded(tail, channels)};
    EXPECT_TRUE(tail_args.bounded);
    gemm(args(nullptr, conv_tail_scalar, &tail_args));
    EXPECT_TRUE(output.guards_intact());
    return output.values();
  }

  /// On accumulators that hold `init` already, in reverse order.
  std::vector<int32_t> run_in_place(GemmFn* gemm) const {
    GuardedBuffer<int32_t> acc(m_ * nr_);
    std::vector<int32_t*> rows;
    for (int64_t i = 0; i < m_; ++i) {
      rows.push_back(acc.data() + (m_ - 1 - i) * nr_);
      std::copy(init_.begin(), init_.end(), rows.back());
    }
    GemmArgs call = args(nullptr, nullptr, nullptr);
    call.init = nullptr;
    call.acc_rows = rows.data();
    gemm(call);
    EXPECT_TRUE(acc.guards_intact());
    std::vector<int32_t> result;
    for (const int32_t* row : rows) result.insert(result.end(), row, row + nr_);
    return result;
  }

  void expect_exact(GemmFn* gemm) const {
    SCOPED_TRACE("m " + std::to_string(m_) + ", nr " + std::to_string(nr_) + ", dwords " +
                 std::to_string(runs_.front().dwords));
    const std::vector<int32_t> expected = run(truth_);
    expect_same(expected, run(gemm));
    expect_same(expected, run_with_tail(gemm));
    expect_same(expected, run_in_place(gemm));
    for (const int64_t channels : {nr_, nr_ - 5}) {
      for (const bool residual : {false, true}) {
        expect_same(run_to_codes(truth_, channels, residual), run_to_codes(gemm, channels, residual));
      }
    }
  }

 private:
  static constexpr int64_t kPixelStep = 13;

  GemmArgs args(int32_t* acc, ConvTailFn* tail, const ConvTailArgs* tail_args) const {
    return {.pixels = pixels_.data(),
            .m = m_,
            .runs = runs_.data(),
            .run_count = static_cast<int64_t>(runs_.size()),
            .panel = panel_.data(),
            .nr = nr_,
            .init = init_.data(),
            .acc = acc,
            .acc_rows = nullptr,
            .tail = tail,
            .tail_args = tail_args};
  }

  /// Bytes on a cache line, as packed weights are.
  class Panel {
   public:
    explicit Panel(size_t size) : storage_(size + 64), size_(static_cast<int64_t>(size)) {}
    int64_t size() const { return size_; }
    int8_t* data() { return storage_.data() + (64 - reinterpret_cast<uintptr_t>(storage_.data()) % 64) % 64; }
    const int8_t* data() const { return const_cast<Panel*>(this)->data(); }

   private:
    std::vector<int8_t> storage_;
    int64_t size_;
  };

  GemmFn* truth_;
  int64_t m_, nr_;
  std::vector<uint8_t> input_;
  Panel panel_;
  std::vector<int32_t> init_;
  std::vector<const uint8_t*> pixels_;
  std::vector<GemmRun> runs_;
};

/// Counts of pixels and panel rows one below, at and one above every tile and unrolling.
inline void sweep_gemm(const GemmFamily& family, GemmFn* gemm) {
  for (const int64_t nr : {16, 32, 48, 64}) {
    for (const int64_t rows : {0, 1, 2, 3, 4, 5, 7, 8, 9, 33}) {
      for (const int64_t m : {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 23, 24, 25, 49}) {
        GemmCase(family, m, nr, rows).expect_exact(gemm);
        if (testing::Test::HasFailure()) return;
      }
    }
    for (int64_t m = 1; m <= 24; ++m) GemmCase(family, m, nr, 6).expect_exact(gemm);
    GemmCase(family, 0, nr, 4).expect_exact(gemm);
    GemmCase(family, 7, nr, 1000, true).expect_exact(gemm);
  }
}

}  // namespace ptqx::kernels
