// Without VPOPCNTDQ: ones are counted by looking up nibbles, and VPDPBUSD adds the counts of a dword.

#include "kernels/gemm_zmm.h"

namespace ptqx::kernels {
namespace {

struct ZmmSigns {
  static constexpr int kPerByte = 1;
  static constexpr bool kSums = false, kOfGroups = false;
  static __m512i dword(const int8_t* w, int /*index*/) { return _mm512_load_si512(w); }
  static __m512i dot(__m512i acc, __m512i x, __m512i w) {
    const __m512i nibble = _mm512_set1_epi8(0x0F);
    const __m512i ones_of =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m512i differ = _mm512_xor_si512(x, w);
    const __m512i low = _mm512_and_si512(differ, nibble);
    const __m512i high = _mm512_and_si512(_mm512_srli_epi16(differ, 4), nibble);
    const __m512i counts =
        _mm512_add_epi8(_mm512_shuffle_epi8(ones_of, low), _mm512_shuffle_epi8(ones_of, high));
    return _mm512_dpbusd_epi32(acc, counts, _mm512_set1_epi8(1));
  }
  static __m512i sum(__m512i acc) {
    return _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(acc, 1));
  }
};

}  // namespace

void gemm_binary_avx512vnni(const GemmArgs& args) { gemm_zmm<ZmmSigns>(args); }

}  // namespace ptqx::kernels
