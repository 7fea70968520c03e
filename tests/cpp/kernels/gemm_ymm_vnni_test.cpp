#include <gtest/gtest.h>

#include "gemm_case.h"

namespace ptqx::kernels {

GemmFn gemm_u8s8_ymm_evex, gemm_u8s4_ymm_evex, gemm_s16s16_ymm_evex;  // in gemm_ymm_vnni_avx512vnni.cpp

namespace {

TEST(GemmYmmVnniTest, EqualTheScalarRows) {
  if (!isa_supported(Isa::kAvx512Vnni)) GTEST_SKIP() << "this CPU lacks AVX-512 VNNI";
  sweep_gemm(kU8S8, gemm_u8s8_ymm_evex);
  sweep_gemm(kU8S4, gemm_u8s4_ymm_evex);
  sweep_gemm(kS16S16, gemm_s16s16_ymm_evex);
}

}  // namespace
}  // namespace ptqx::kernels
