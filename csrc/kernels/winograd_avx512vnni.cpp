#include "kernels/simd_avx512.h"
#include "kernels/winograd_lines.h"

namespace ptqx::kernels {
namespace {

struct ZmmWords {
  __m512i x;
};
inline ZmmWords operator+(ZmmWords a, ZmmWords b) { return {_mm512_add_epi16(a.x, b.x)}; }
inline ZmmWords operator-(ZmmWords a, ZmmWords b) { return {_mm512_sub_epi16(a.x, b.x)}; }
template <int N>
inline ZmmWords shifted(ZmmWords a) {
  return {_mm512_slli_epi16(a.x, N)};
}

struct ZmmInts {
  __m512i x;
};
inline ZmmInts operator+(ZmmInts a, ZmmInts b) { return {_mm512_add_epi32(a.x, b.x)}; }
inline ZmmInts operator-(ZmmInts a, ZmmInts b) { return {_mm512_sub_epi32(a.x, b.x)}; }
template <int N>
inline ZmmInts shifted(ZmmInts a) {
  return {_mm512_slli_epi32(a.x, N)};
}

struct Zmm {
  using Words = ZmmWords;
  using Ints = ZmmInts;
  static constexpr int64_t kCodes = 64;
  static constexpr int64_t kDwords = 16;

  template <int Half>
  static ZmmWords load_words(const uint8_t* codes, int64_t count) {
    const __m512i bytes =
        count == kCodes ? _mm512_loadu_si512(codes) : _mm512_maskz_loadu_epi8(first_lanes64(count), codes);
    return {Half == 0 ? _mm512_and_si512(bytes, _mm512_set1_epi16(0xFF)) : _mm512_srli_epi16(bytes, 8)};
  }
  template <int Left, int Right>
  static ZmmWords code_words(const int8_t* codes) {
    return {_mm512_srai_epi16(_mm512_slli_epi16(_mm512_load_si512(codes), Left), Right)};
  }
  /// `count` codes gave half as many words.
  static void store(int16_t* to, ZmmWords words, int64_t count) {
    if (count == kCodes) return _mm512_storeu_si512(to, words.x);
    _mm512_mask_storeu_epi8(to, first_lanes64(count), words.x);
  }
  static void store(int16_t* to, ZmmWords words) { _mm512_store_si512(to, words.x); }
  static ZmmInts load(const int32_t* from) { return {_mm512_loadu_si512(from)}; }
  static void store(int32_t* to, ZmmInts ints) { _mm512_storeu_si512(to, ints.x); }
  static ZmmInts divided(ZmmInts sums) {
    return {_mm512_srai_epi32(_mm512_mullo_epi32(sums.x, _mm512_set1_epi32(kInverseOf9)), 6)};
  }
};

}  // namespace

void winograd_input_avx512vnni(const WinogradInputArgs& args) { winograd_input<Zmm>(args); }
void winograd_weight_avx512vnni(const WinogradWeightArgs& args) { winograd_weight<Zmm>(args); }
void winograd_output_avx512vnni(const WinogradOutputArgs& args) { winograd_output<Zmm>(args); }

}  // namespace ptqx::kernels
