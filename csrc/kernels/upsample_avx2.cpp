#include "kernels/simd_avx2.h"
#include "kernels/upsample_lines.h"

namespace ptqx::kernels {
namespace {

inline __m256 between(__m256 first, __m256 second, __m256 first_weight, __m256 second_weight) {
  return _mm256_add_ps(_mm256_mul_ps(first, first_weight), _mm256_mul_ps(second, second_weight));
}

/// value(element) and load(address) give one channel and 8; store(address, count, values) writes up to 8
/// elements of the output.
template <class T, class Value, class Load, class Store>
void interpolate(const T* x, const BilinearArgs& args, float* scratch, T* y, Value value, Load load,
                 Store store) {
  const auto between_columns = [&](const T* row, float* line) {
    for (int64_t ox = 0; ox < args.ow; ++ox, line += args.c) {
      const BilinearTap& tap = args.columns[ox];
      const T* first = row + tap.first * args.c;
      const T* second = row + tap.second * args.c;
      const __m256 first_weight = _mm256_set1_ps(tap.first_weight);
      const __m256 second_weight = _mm256_set1_ps(tap.second_weight);
      int64_t i = 0;
      for (; i + 8 <= args.c; i += 8) {
        _mm256_storeu_ps(line + i, between(load(first + i), load(second + i), first_weight, second_weight));
      }
      for (; i < args.c; ++i) {
        line[i] = value(first[i]) * tap.first_weight + value(second[i]) * tap.second_weight;
      }
    }
  };
  const auto between_rows = [&](const float* first, const float* second, const BilinearTap& tap, T* to) {
    const __m256 first_weight = _mm256_set1_ps(tap.first_weight);
    const __m256 second_weight = _mm256_set1_ps(tap.second_weight);
    for_each_8(args.ow * args.c, [&](int64_t i, int64_t count) {
      store(to + i, count,
            between(load_f32(first + i, count), load_f32(second + i, count), first_weight, second_weight));
    });
  };
  interpolate_lines(x, args, scratch, y, between_columns, between_rows);
}

}  // namespace

void upsample_bilinear2d_u8_avx2(const uint8_t* x, const BilinearArgs& args, float* scratch, uint8_t* y) {
  const __m256i zero_point = _mm256_set1_epi32(args.zero_point);
  const CodeRange range = code_range(zero_point, 0, 255);
  interpolate(
      x, args, scratch, y, [zero = args.zero_point](uint8_t code) { return static_cast<float>(code - zero); },
      [&](const uint8_t* from) {
        return _mm256_cvtepi32_ps(_mm256_sub_epi32(load_codes(from, 8), zero_point));
      },
      [&](uint8_t* to, int64_t count, __m256 v) { store_codes(to, count, round_and_clamp(v, range)); });
}

void upsample_bilinear2d_f32_avx2(const float* x, const BilinearArgs& args, float* scratch, float* y) {
  interpolate(
      x, args, scratch, y, [](float v) { return v; }, [](const float* from) { return _mm256_loadu_ps(from); },
      [](float* to, int64_t count, __m256 v) { store_f32(to, count, v); });
}

}  // namespace ptqx::kernels
