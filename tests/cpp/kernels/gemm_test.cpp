#include <gtest/gtest.h>

#include "gemm_case.h"

namespace ptqx::kernels {
namespace {

/// The accumulators of one pixel and a panel of sixteen columns.
std::vector<int32_t> sums(GemmFn* gemm, const uint8_t* pixel, const GemmRun& run, const int8_t* panel,
                          int32_t start) {
  const std::vector<int32_t> init(16, start);
  std::vector<int32_t> acc(16);
  gemm({.pixels = &pixel,
        .m = 1,
        .runs = &run,
        .run_count = 1,
        .panel = panel,
        .nr = 16,
        .init = init.data(),
        .acc = acc.data(),
        .acc_rows = nullptr,
        .tail = nullptr,
        .tail_args = nullptr});
  return acc;
}

TEST(GemmTest, ScalarRowIsTheDefinition) {
  const std::vector<uint8_t> input = {1, 2, 3, 255};
  std::vector<int8_t> panel(16 * 4, 0);
  for (size_t j = 0; j < 16; ++j) panel[j * 4 + 3] = static_cast<int8_t>(-128 + static_cast<int>(j));
  const std::vector<int32_t> acc = sums(gemm_u8s8_scalar, input.data(), {0, 0, 1}, panel.data(), 10);
  for (int j = 0; j < 16; ++j) EXPECT_EQ(acc[static_cast<size_t>(j)], 10 + 255 * (j - 128));
}

// Low nibbles are dword 0, high nibbles dword 1.
TEST(GemmTest, ScalarRowOf4BitCodesIsTheDefinition) {
  const std::vector<uint8_t> input = {1, 0, 0, 255, 0, 10, 0, 0};
  std::vector<int8_t> panel(16 * 4, 0);
  for (size_t j = 0; j < 16; ++j) {
    panel[j * 4 + 3] = static_cast<int8_t>(j);       // dword 0: 0..7, -8..-1
    panel[j * 4 + 1] = static_cast<int8_t>(j << 4);  // dword 1: the same
  }
  const std::vector<int32_t> acc = sums(gemm_u8s4_scalar, input.data(), {0, 0, 2}, panel.data(), 10);
  for (int j = 0; j < 16; ++j) EXPECT_EQ(acc[static_cast<size_t>(j)], 10 + 265 * (j < 8 ? j : j - 16));
}

// Two words a dword, and sums that wrap around.
TEST(GemmTest, ScalarRowOfWordsIsTheDefinition) {
  const std::vector<int16_t> input = {-32768, 3};
  std::vector<int16_t> words(16 * 2);
  for (size_t j = 0; j < 16; ++j) {
    words[2 * j] = -32768;
    words[2 * j + 1] = static_cast<int16_t>(j);
  }
  const std::vector<int32_t> acc = sums(gemm_s16s16_scalar, reinterpret_cast<const uint8_t*>(input.data()),
                                        {0, 0, 1}, reinterpret_cast<const int8_t*>(words.data()), 1 << 30);
  for (int j = 0; j < 16; ++j) {
    const int64_t sum = (int64_t{1} << 30) + (int64_t{1} << 30) + 3 * j;
    EXPECT_EQ(acc[static_cast<size_t>(j)], static_cast<int32_t>(sum - (int64_t{1} << 32)));
  }
}

TEST(GemmTest, EveryRowEqualsTheScalarOne) {
  for_each_vector_row(gemm_u8s8_rows(), [](GemmFn* gemm) { sweep_gemm(kU8S8, gemm); });
  for_each_vector_row(gemm_u8s4_rows(), [](GemmFn* gemm) { sweep_gemm(kU8S4, gemm); });
  for_each_vector_row(gemm_binary_rows(), [](GemmFn* gemm) { sweep_gemm(kBinary, gemm); });
  for_each_vector_row(gemm_s16s16_rows(), [](GemmFn* gemm) { sweep_gemm(kS16S16, gemm); });
}

// Column 5 of groups of 4 sees the second dword, of groups of 8 the first two.
TEST(GemmTest, ScalarRowOfGroupsIsTheDefinition) {
  std::vector<uint8_t> input(16);
  std::iota(input.begin(), input.end(), uint8_t{1});
  const std::vector<int8_t> panel(2 * 16 * 4, 1);
  for (const int64_t dwords : {1, 2}) {
    const std::vector<int32_t> acc =
        sums(gemm_u8s8_groups_scalar, input.data(), {0, 0, dwords}, panel.data(), 100);
    EXPECT_EQ(acc[5], 100 + (dwords == 1 ? 5 + 6 + 7 + 8 : 36));
    EXPECT_EQ(acc[15], 100 + (dwords == 1 ? 13 + 14 + 15 + 16 : 9 + 10 + 11 + 12 + 13 + 14 + 15 + 16));
  }
}

TEST(GemmTest, EveryRowOfGroupsEqualsTheScalarOne) {
  for_each_vector_row(gemm_u8s8_groups_rows(), [](GemmFn* gemm) {
    for (const int64_t dwords : {1, 2}) {
      for (const int64_t taps : {0, 1, 2, 9, 25}) {
        for (int64_t m = 0; m < 50; ++m) {
          GemmCase random(kU8S8Groups, m, 16, taps);
          random.use_taps(dwords);
          random.expect_exact(gemm);
        }
        GemmCase extreme(kU8S8Groups, 7, 16, taps, true);
        extreme.use_taps(dwords);
        extreme.expect_exact(gemm);
      }
    }
  });
}

TEST(GemmTest, ScalarRowOfSignsIsTheDefinition) {
  const std::vector<uint8_t> input = {0b10110001, 0, 0, 0xFF};
  std::vector<int8_t> panel(16 * 4, 0);
  for (size_t j = 0; j < 16; ++j) panel[j * 4] = static_cast<int8_t>(j);
  const std::vector<int32_t> acc = sums(gemm_binary_scalar, input.data(), {0, 0, 1}, panel.data(), 32);
  for (int j = 0; j < 16; ++j) {
    int dot = 0;
    for (int bit = 0; bit < 32; ++bit) {
      const int x = bit < 8 ? input[0] >> bit & 1 : bit < 24 ? 0 : 1;
      const int w = bit < 8 ? j >> bit & 1 : 0;
      dot += (2 * x - 1) * (2 * w - 1);
    }
    EXPECT_EQ(acc[static_cast<size_t>(j)], dot);
  }
}

// As many dwords as the contract allows, every product the largest: the bound of kGemmS4Dwords.
TEST(GemmTest, LargestSumsOf4BitCodesAreExact) {
  constexpr int64_t kRows = (kGemmS4Dwords / 2 - 1) / 2;
  for_each_vector_row(gemm_u8s4_rows(),
                      [](GemmFn* gemm) { GemmCase(kU8S4, 3, 16, kRows, true).expect_exact(gemm); });
}

TEST(GemmTest, AvxVnniRowEqualsTheScalarOne) {
  if (!isa_supported(Isa::kAvxVnni)) {
    GTEST_SKIP() << "this CPU lacks AVX-VNNI; GemmYmmVnniTest runs the same source with the AVX-512 encoding";
  }
  sweep_gemm(kU8S8, gemm_u8s8_avxvnni);
  sweep_gemm(kU8S4, gemm_u8s4_avxvnni);
  sweep_gemm(kS16S16, gemm_s16s16_avxvnni);
}

TEST(GemmTest, PanelWidthWastesLittle) {
  EXPECT_EQ(gemm_panel_width(Isa::kAvx512Vnni, 512), 64);
  EXPECT_EQ(gemm_panel_width(Isa::kAvx512Vpopcntdq, 512), 64);
  EXPECT_EQ(gemm_panel_width(Isa::kAvx512Vnni, 96), 48);
  EXPECT_EQ(gemm_panel_width(Isa::kAvx512Vnni, 24), 32);
  EXPECT_EQ(gemm_panel_width(Isa::kAvx512Vnni, 10), 16);
  EXPECT_EQ(gemm_panel_width(Isa::kAvx2, 512), 16);
}

}  // namespace
}  // namespace ptqx::kernels
