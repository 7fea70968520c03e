// The source of the AVX-VNNI row with the AVX-512 encoding of its instruction, for CPUs that have only that.

#include "kernels/gemm_ymm_dot.h"

namespace ptqx::kernels {
namespace {

struct DotAvx512Vl {
  static __m256i dot(__m256i acc, __m256i x, __m256i w) { return _mm256_dpbusd_epi32(acc, x, w); }
};

struct DotWordsAvx512Vl {
  static __m256i dot(__m256i acc, __m256i x, __m256i w) { return _mm256_dpwssd_epi32(acc, x, w); }
};

}  // namespace

GemmFn gemm_u8s8_ymm_evex, gemm_u8s4_ymm_evex, gemm_s16s16_ymm_evex;
void gemm_u8s8_ymm_evex(const GemmArgs& args) { ymm_tiles<GemmYmmDot<DotAvx512Vl, YmmS8>>(args); }
void gemm_u8s4_ymm_evex(const GemmArgs& args) { ymm_tiles<GemmYmmDot<DotAvx512Vl, YmmS4>>(args); }
void gemm_s16s16_ymm_evex(const GemmArgs& args) { ymm_tiles<GemmYmmDot<DotWordsAvx512Vl, YmmS8>>(args); }

}  // namespace ptqx::kernels
