#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/gemm.h"

namespace ptqx::kernels {
namespace {

/// What dword `dword` of column j makes of the input's at x, as the sum over its bytes.
template <class Byte>
struct Bytes {
  static uint32_t dot(const uint8_t* x, const GemmArgs& args, int64_t dword, int64_t j) {
    int32_t sum = 0;
    for (int b = 0; b < 4; ++b) sum += Byte::product(x[b], args, dword, j, b);
    return static_cast<uint32_t>(sum);
  }
};

struct S8 {
  static int product(int x, const GemmArgs& args, int64_t dword, int64_t j, int b) {
    return x * args.panel[(dword * args.nr + j) * 4 + b];
  }
};

struct S4 {
  static int product(int x, const GemmArgs& args, int64_t dword, int64_t j, int b) {
    const int byte = args.panel[(dword / 2 * args.nr + j) * 4 + b];
    const int nibble = (dword % 2 == 0 ? byte : byte >> 4) & 0xF;
    return x * ((nibble ^ 8) - 8);
  }
};

struct Signs {
  static int product(int x, const GemmArgs& args, int64_t dword, int64_t j, int b) {
    const auto w = static_cast<uint8_t>(args.panel[(dword * args.nr + j) * 4 + b]);
    return -2 * std::popcount(static_cast<uint8_t>(x ^ w));
  }
};

struct Words {
  static uint32_t dot(const uint8_t* x, const GemmArgs& args, int64_t dword, int64_t j) {
    int16_t a[2], b[2];
    std::memcpy(a, x, sizeof a);
    std::memcpy(b, args.panel + (dword * args.nr + j) * 4, sizeof b);
    return static_cast<uint32_t>(a[0] * b[0]) + static_cast<uint32_t>(a[1] * b[1]);
  }
};

template <class Codes>
void multiply(const GemmArgs& args, const GemmRun& run, const uint8_t* x, int32_t* acc) {
  for (int64_t d = 0; d < run.dwords; ++d, x += 4) {
    for (int64_t j = 0; j < args.nr; ++j) {
      acc[j] = static_cast<int32_t>(static_cast<uint32_t>(acc[j]) + Codes::dot(x, args, run.weight + d, j));
    }
  }
}

/// Of groups of as many channels as the run's dwords have bytes.
struct Groups {};

template <>
void multiply<Groups>(const GemmArgs& args, const GemmRun& run, const uint8_t* x, int32_t* acc) {
  const int64_t channels = 4 * run.dwords;
  for (int64_t d = 0; d < run.dwords; ++d) {
    for (int64_t j = 0; j < args.nr; ++j) {
      const uint8_t* dword = x + j / channels * channels + 4 * d;
      acc[j] = static_cast<int32_t>(static_cast<uint32_t>(acc[j]) +
                                    Bytes<S8>::dot(dword, args, run.weight + d, j));
    }
  }
}

template <class Codes>
void gemm(const GemmArgs& args) {
  int32_t row[kGemmMaxNr];
  for (int64_t i = 0; i < args.m; ++i) {
    int32_t* acc = row;
    if (args.acc_rows != nullptr) {
      acc = args.acc_rows[i];
    } else {
      if (args.acc != nullptr) acc = args.acc + i * args.nr;
      std::copy_n(args.init, args.nr, acc);
    }
    for (const GemmRun& run : std::span(args.runs, static_cast<size_t>(args.run_count))) {
      multiply<Codes>(args, run, args.pixels[i] + run.input, acc);
    }
    if (acc == row) args.tail(*args.tail_args, acc, i, 1, args.nr);
  }
}

}  // namespace

void gemm_u8s8_scalar(const GemmArgs& args) { gemm<Bytes<S8>>(args); }
void gemm_u8s8_groups_scalar(const GemmArgs& args) { gemm<Groups>(args); }
void gemm_u8s4_scalar(const GemmArgs& args) { gemm<Bytes<S4>>(args); }
void gemm_binary_scalar(const GemmArgs& args) { gemm<Bytes<Signs>>(args); }
void gemm_s16s16_scalar(const GemmArgs& args) { gemm<Words>(args); }

}  // namespace ptqx::kernels
