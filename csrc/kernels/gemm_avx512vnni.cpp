#include "kernels/gemm_zmm.h"

namespace ptqx::kernels {
namespace {

struct ZmmS8 {
  static constexpr int kPerByte = 1;
  static constexpr bool kSums = true, kOfGroups = false;
  static __m512i dword(const int8_t* w, int /*index*/) { return _mm512_load_si512(w); }
  static __m512i dot(__m512i acc, __m512i x, __m512i w) { return _mm512_dpbusd_epi32(acc, x, w); }
};

/// Codes enter as 16 * code, which is a nibble on its way out of the byte; so do sums.
struct ZmmS4 {
  static constexpr int kPerByte = 2;
  static constexpr bool kSums = false, kOfGroups = false;
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
  static constexpr bool kSums = true, kOfGroups = false;
  static __m512i dword(const int8_t* w, int /*index*/) { return _mm512_load_si512(w); }
  static __m512i dot(__m512i acc, __m512i x, __m512i w) { return _mm512_dpwssd_epi32(acc, x, w); }
};

/// Groups of 4 * Dwords channels, of which sixteen are a vector: each column has the dword of its own group.
template <int Dwords>
struct ZmmGroups {
  static constexpr bool kSums = true, kOfGroups = true;

  template <int MR>
  [[gnu::always_inline]] static void multiply_run(const GemmArgs& args, const GemmRun& run,
                                                  const uint8_t* const (&pixels)[MR], __m512i (&acc)[MR][1]) {
    const __m512i of_column = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i first =
        _mm512_slli_epi32(_mm512_srli_epi32(of_column, Dwords == 1 ? 2 : 3), Dwords == 1 ? 0 : 1);
    __m512i dword[Dwords], weights[Dwords];
#pragma GCC unroll 2
    for (int d = 0; d < Dwords; ++d) {
      dword[d] = _mm512_add_epi32(first, _mm512_set1_epi32(d));
      weights[d] = _mm512_load_si512(args.panel + (run.weight + d) * 64);
    }
#pragma GCC unroll 32
    for (int i = 0; i < MR; ++i) {
      const auto* channels = reinterpret_cast<const __m128i*>(pixels[i] + run.input);
      const __m512i x = _mm512_castsi128_si512(_mm_loadu_si128(channels));
#pragma GCC unroll 2
      for (int d = 0; d < Dwords; ++d) {
        acc[i][0] = _mm512_dpbusd_epi32(acc[i][0], _mm512_permutexvar_epi32(dword[d], x), weights[d]);
      }
    }
  }
};

}  // namespace

void gemm_u8s8_groups_avx512vnni(const GemmArgs& args) {
  constexpr int kPixels = 24;  // accumulators, beside indices, weights and what is permuted
  if (args.run_count == 0 || args.runs[0].dwords == 1) return all_tiles<ZmmGroups<1>, kPixels, 1>(args);
  all_tiles<ZmmGroups<2>, kPixels, 1>(args);
}
void gemm_u8s8_avx512vnni(const GemmArgs& args) { gemm_zmm<ZmmS8>(args); }
void gemm_u8s4_avx512vnni(const GemmArgs& args) { gemm_zmm<ZmmS4>(args); }
void gemm_s16s16_avx512vnni(const GemmArgs& args) { gemm_zmm<ZmmS16>(args); }

}  // namespace ptqx::kernels
