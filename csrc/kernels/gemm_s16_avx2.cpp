#include "kernels/gemm_ymm_dot.h"

namespace ptqx::kernels {
namespace {

struct DotWords {
  static __m256i dot(__m256i acc, __m256i x, __m256i w) {
    return _mm256_add_epi32(acc, _mm256_madd_epi16(x, w));
  }
};

}  // namespace

void gemm_s16s16_avx2(const GemmArgs& args) { ymm_tiles<GemmYmmDot<DotWords, YmmS8>>(args); }

}  // namespace ptqx::kernels
