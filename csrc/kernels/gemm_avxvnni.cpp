#include "kernels/gemm_ymm_dot.h"

namespace ptqx::kernels {
namespace {

struct DotAvxVnni {
  static __m256i dot(__m256i acc, __m256i x, __m256i w) { return _mm256_dpbusd_avx_epi32(acc, x, w); }
};

struct DotWordsAvxVnni {
  static __m256i dot(__m256i acc, __m256i x, __m256i w) { return _mm256_dpwssd_avx_epi32(acc, x, w); }
};

}  // namespace

void gemm_u8s8_avxvnni(const GemmArgs& args) { ymm_tiles<GemmYmmDot<DotAvxVnni, YmmS8>>(args); }
void gemm_u8s4_avxvnni(const GemmArgs& args) { ymm_tiles<GemmYmmDot<DotAvxVnni, YmmS4>>(args); }
void gemm_s16s16_avxvnni(const GemmArgs& args) { ymm_tiles<GemmYmmDot<DotWordsAvxVnni, YmmS8>>(args); }

}  // namespace ptqx::kernels
