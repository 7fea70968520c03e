#include "kernels/gemm_zmm.h"

namespace ptqx::kernels {
namespace {

struct ZmmS8 {
  static constexpr int kPerByte = 1;
  static constexpr bool kSums = true;
  static __m512i dword(const int8_t* w, int /*index*/) { return _mm512_load_si512(w); }
  static __m512i dot(__m512i acc, __m512i x, __m512i w) { return _mm512_dpbusd_epi32(acc, x, w); }
};

/// Codes enter as 16 * code, which is a nibble on its way out of the byte; so do sums.
struct ZmmS4 {
  static constexpr int kPerByte = 2;
  static constexpr bool kSums = false;
  static __m512i dword(const int8_t* w, int index) {
    const __m512i pair = _mm512_load_si512(w);
    return _mm512_and_si512(index == 0 ? _mm512_slli_epi16(pair, 4) : pair, _mm512_set1_epi8(-16));
  }
  static __m512i dot(__m512i acc, __m512i x, __m512i w) { return _mm512_dpbusd_epi32(acc, x, w); }
  static __m512i sum(__m512i acc) { return _mm512_srai_epi32(acc, 4); }
};

/// Two words of the input meet two of the weights.
struct ZmmS16 {
  static constexpr int kPerByte = 1;
  static constexpr bool kSums = true;
  static __m512i dword(const int8_t* w, int /*index*/) { return _mm512_load_si512(w); }
  static __m512i dot(__m512i acc, __m512i x, __m512i w) { return _mm512_dpwssd_epi32(acc, x, w); }
};

}  // namespace

void gemm_u8s8_avx512vnni(const GemmArgs& args) { gemm_zmm<ZmmS8>(args); }
void gemm_u8s4_avx512vnni(const GemmArgs& args) { gemm_zmm<ZmmS4>(args); }
void gemm_s16s16_avx512vnni(const GemmArgs& args) { gemm_zmm<ZmmS16>(args); }

}  // namespace ptqx::kernels
