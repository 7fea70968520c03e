#include "kernels/pointwise.h"
#include "kernels/simd_avx512.h"

namespace ptqx::kernels {

// VBMI finds a byte in 128 at once; bit 7 of a code says in which half of the table.
void lookup_u8_avx512vpopcntdq(const uint8_t* x, int64_t n, const uint8_t table[256], uint8_t* y) {
  __m512i parts[4];
  for (int k = 0; k < 4; ++k) parts[k] = _mm512_loadu_si512(table + 64 * k);
  for (int64_t i = 0; i < n; i += 64) {
    const __mmask64 lanes = first_lanes64(n - i);
    const __m512i codes = _mm512_maskz_loadu_epi8(lanes, x + i);
    const __m512i low = _mm512_permutex2var_epi8(parts[0], codes, parts[1]);
    const __m512i high = _mm512_permutex2var_epi8(parts[2], codes, parts[3]);
    const __m512i found = _mm512_mask_blend_epi8(_mm512_movepi8_mask(codes), low, high);
    _mm512_mask_storeu_epi8(y + i, lanes, found);
  }
}

}  // namespace ptqx::kernels
