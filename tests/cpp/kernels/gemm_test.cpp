#include <gtest/gtest.h>

#include "gemm_case.h"

namespace ptqx::kernels {
namespace {

TEST(GemmTest, ScalarRowIsTheDefinition) {
  const std::vector<uint8_t> input = {1, 2, 3, 255};
  std::vector<int8_t> panel(16 * 4, 0);
  for (size_t j = 0; j < 16; ++j) panel[j * 4 + 3] = static_cast<int8_t>(-128 + static_cast<int>(j));
  const std::vector<int32_t> init(16, 10);
  const uint8_t* pixel = input.data();
  const GemmRun run{0, 0, 1};
  std::vector<int32_t> acc(16);
  gemm_u8s8_scalar({.pixels = &pixel,
                    .m = 1,
                    .runs = &run,
                    .run_count = 1,
                    .panel = panel.data(),
                    .nr = 16,
                    .init = init.data(),
                    .acc = acc.data(),
                    .acc_rows = nullptr,
                    .tail = nullptr,
                    .tail_args = nullptr});
  for (int j = 0; j < 16; ++j) EXPECT_EQ(acc[static_cast<size_t>(j)], 10 + 255 * (j - 128));
}

TEST(GemmTest, EveryRowEqualsTheScalarOne) {
  for_each_vector_row(gemm_u8s8_rows(), [](GemmFn* gemm) { sweep_gemm(gemm); });
}

TEST(GemmTest, AvxVnniRowEqualsTheScalarOne) {
  if (!isa_supported(Isa::kAvxVnni)) {
    GTEST_SKIP() << "this CPU lacks AVX-VNNI; GemmYmmVnniTest runs the same source with the AVX-512 encoding";
  }
  sweep_gemm(gemm_u8s8_avxvnni);
}

TEST(GemmTest, PanelWidthWastesLittle) {
  EXPECT_EQ(gemm_panel_width(Isa::kAvx512Vnni, 512), 64);
  EXPECT_EQ(gemm_panel_width(Isa::kAvx512Vnni, 96), 48);
  EXPECT_EQ(gemm_panel_width(Isa::kAvx512Vnni, 24), 32);
  EXPECT_EQ(gemm_panel_width(Isa::kAvx512Vnni, 10), 16);
  EXPECT_EQ(gemm_panel_width(Isa::kAvx2, 512), 16);
}

}  // namespace
}  // namespace ptqx::kernels
