#include <gtest/gtest.h>

#include "gemm_case.h"

namespace ptqx::kernels {

GemmFn gemm_u8s8_ymm_evex;  // in gemm_ymm_vnni_avx512vnni.cpp

namespace {

TEST(GemmYmmVnniTest, EqualsTheScalarRow) {
  if (!isa_supported(Isa::kAvx512Vnni)) GTEST_SKIP() << "this CPU lacks AVX-512 VNNI";
  sweep_gemm(gemm_u8s8_ymm_evex);
}

}  // namespace
}  // namespace ptqx::kernels
