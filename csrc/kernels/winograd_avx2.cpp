#include <immintrin.h>

#include "kernels/winograd_lines.h"

namespace ptqx::kernels {
namespace {

struct YmmWords {
  __m256i x;
};
inline YmmWords operator+(YmmWords a, YmmWords b) { return {_mm256_add_epi16(a.x, b.x)}; }
inline YmmWords operator-(YmmWords a, YmmWords b) { return {_mm256_sub_epi16(a.x, b.x)}; }
template <int N>
inline YmmWords shifted(YmmWords a) {
  return {_mm256_slli_epi16(a.x, N)};
}

struct YmmInts {
  __m256i x;
};
inline YmmInts operator+(YmmInts a, YmmInts b) { return {_mm256_add_epi32(a.x, b.x)}; }
inline YmmInts operator-(YmmInts a, YmmInts b) { return {_mm256_sub_epi32(a.x, b.x)}; }
template <int N>
inline YmmInts shifted(YmmInts a) {
  return {_mm256_slli_epi32(a.x, N)};
}

struct Ymm {
  using Words = YmmWords;
  using Ints = YmmInts;
  static constexpr int64_t kCodes = 32;
  static constexpr int64_t kDwords = 8;

  /// 32 codes or 16.
  template <int Half>
  static YmmWords load_words(const uint8_t* codes, int64_t count) {
    const __m256i bytes =
        count == kCodes ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes))
                        : _mm256_zextsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
    return {Half == 0 ? _mm256_and_si256(bytes, _mm256_set1_epi16(0xFF)) : _mm256_srli_epi16(bytes, 8)};
  }
  template <int Left, int Right>
  static YmmWords code_words(const int8_t* codes) {
    const __m256i bytes = _mm256_load_si256(reinterpret_cast<const __m256i*>(codes));
    return {_mm256_srai_epi16(_mm256_slli_epi16(bytes, Left), Right)};
  }
  /// `count` codes gave half as many words.
  static void store(int16_t* to, YmmWords words, int64_t count) {
    if (count == kCodes) return _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), words.x);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(words.x));
  }
  static void store(int16_t* to, YmmWords words) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(to), words.x);
  }
  static YmmInts load(const int32_t* from) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))};
  }
  static void store(int32_t* to, YmmInts ints) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), ints.x);
  }
  static YmmInts divided(YmmInts sums) {
    return {_mm256_srai_epi32(_mm256_mullo_epi32(sums.x, _mm256_set1_epi32(kInverseOf9)), 6)};
  }
};

}  // namespace

void winograd_input_avx2(const WinogradInputArgs& args) { winograd_input<Ymm>(args); }
void winograd_weight_avx2(const WinogradWeightArgs& args) { winograd_weight<Ymm>(args); }
void winograd_output_avx2(const WinogradOutputArgs& args) { winograd_output<Ymm>(args); }

}  // namespace ptqx::kernels
