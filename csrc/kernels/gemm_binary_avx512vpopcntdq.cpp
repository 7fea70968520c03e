#include "kernels/gemm_zmm.h"

namespace ptqx::kernels {
namespace {

struct ZmmSigns {
  static constexpr int kPerByte = 1;
  static constexpr bool kSums = false, kOfGroups = false;
  static __m512i dword(const int8_t* w, int /*index*/) { return _mm512_load_si512(w); }
  static __m512i dot(__m512i acc, __m512i x, __m512i w) {
    return _mm512_add_epi32(acc, _mm512_popcnt_epi32(_mm512_xor_si512(x, w)));
  }
  static __m512i sum(__m512i acc) {
    return _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(acc, 1));
  }
};

}  // namespace

void gemm_binary_avx512vpopcntdq(const GemmArgs& args) { gemm_zmm<ZmmSigns>(args); }

}  // namespace ptqx::kernels
