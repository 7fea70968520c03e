#include "kernels/pack.h"

namespace ptqx::kernels {
namespace {

template <int kBits>
void pack(const int8_t* x, int64_t n, uint8_t* packed) {
  constexpr int kPerByte = 8 / kBits;
  constexpr int kMask = (1 << kBits) - 1;
  for (int64_t byte = 0; byte * kPerByte < n; ++byte) {
    int bits = 0;
    for (int k = 0; k < kPerByte && byte * kPerByte + k < n; ++k) {
      bits |= (x[byte * kPerByte + k] & kMask) << (k * kBits);
    }
    packed[byte] = static_cast<uint8_t>(bits);
  }
}

template <int kBits>
void unpack(const uint8_t* packed, int64_t n, int8_t* y) {
  constexpr int kPerByte = 8 / kBits;
  constexpr int kMask = (1 << kBits) - 1;
  constexpr int kSign = 1 << (kBits - 1);
  for (int64_t i = 0; i < n; ++i) {
    const int bits = (packed[i / kPerByte] >> (i % kPerByte * kBits)) & kMask;
    y[i] = static_cast<int8_t>((bits ^ kSign) - kSign);
  }
}

}  // namespace

void pack_int4_scalar(const int8_t* x, int64_t n, uint8_t* packed) { pack<4>(x, n, packed); }
void unpack_int4_scalar(const uint8_t* packed, int64_t n, int8_t* y) { unpack<4>(packed, n, y); }
void pack_int2_scalar(const int8_t* x, int64_t n, uint8_t* packed) { pack<2>(x, n, packed); }
void unpack_int2_scalar(const uint8_t* packed, int64_t n, int8_t* y) { unpack<2>(packed, n, y); }
void pack_int1_scalar(const int8_t* x, int64_t n, uint8_t* packed) { pack<1>(x, n, packed); }
void unpack_int1_scalar(const uint8_t* packed, int64_t n, int8_t* y) { unpack<1>(packed, n, y); }

void pack_signs_scalar(const float* x, int64_t n, uint8_t* packed) {
  for (int64_t byte = 0; byte < (n + 31) / 32 * 4; ++byte) {
    int bits = 0;
    for (int k = 0; k < 8 && byte * 8 + k < n; ++k) bits |= (x[byte * 8 + k] >= 0.0F ? 1 : 0) << k;
    packed[byte] = static_cast<uint8_t>(bits);
  }
}

}  // namespace ptqx::kernels
