#include <cstring>

#include "kernels/conv_tail_avx512.h"
#include "kernels/gemm.h"

namespace ptqx::kernels {
namespace {

constexpr int64_t kPrefetchBytes = 2048;  // how far ahead of the multiplication the panel is fetched

inline __m512i broadcast_dword(const uint8_t* x) {
  int32_t dword;
  std::memcpy(&dword, x, sizeof dword);
  return _mm512_set1_epi32(dword);
}

/// How many dwords are multiplied per pass over the pixels. The base pointers of many pixels do not fit into
/// registers; where they are reloaded, the load pays for several dwords.
constexpr int unroll_of(int nv) { return nv == 1 ? 4 : nv == 2 ? 2 : 1; }

template <int MR, int NV, int Dwords>
[[gnu::always_inline]] inline void multiply(const uint8_t* const (&pixels)[MR], int64_t k, const int8_t* w,
                                            __m512i (&acc)[MR][NV]) {
  __m512i weights[Dwords][NV];
#pragma GCC unroll 4
  for (int d = 0; d < Dwords; ++d) {
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) {
      weights[d][j] = _mm512_load_si512(w + 64 * (d * NV + j));
      _mm_prefetch(w + kPrefetchBytes + 64 * (d * NV + j), _MM_HINT_T0);
    }
  }
#pragma GCC unroll 32
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 4
    for (int d = 0; d < Dwords; ++d) {
      const __m512i x = broadcast_dword(pixels[i] + k + 4 * d);
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) acc[i][j] = _mm512_dpbusd_epi32(acc[i][j], x, weights[d][j]);
    }
  }
}

/// Where the accumulators of a tile go.
enum class Finish : uint8_t {
  kStore,           // to memory, and from there perhaps to args.tail
  kCodes,           // from registers to codes
  kCodesOfResidual  // with a residual
};

Finish finish_of(const GemmArgs& args) {
  if (args.tail_args == nullptr || !saturation_clamps(*args.tail_args)) return Finish::kStore;
  return args.tail_args->tail->residual != nullptr ? Finish::kCodesOfResidual : Finish::kCodes;
}

/// MR pixels x NV vectors of 16 channels; every loop over them is unrolled, so that the accumulators
/// are registers.
template <int MR, int NV>
void tile(const GemmArgs& args, Finish finish, int64_t first) {
  constexpr int kUnroll = unroll_of(NV);
  __m512i acc[MR][NV];
#pragma GCC unroll 32
  for (int i = 0; i < MR; ++i) {
    const int32_t* start = args.acc_rows != nullptr ? args.acc_rows[first + i] : args.init;
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) acc[i][j] = _mm512_loadu_si512(start + 16 * j);
  }
  const uint8_t* pixels[MR];
#pragma GCC unroll 32
  for (int i = 0; i < MR; ++i) pixels[i] = args.pixels[first + i];

  for (int64_t r = 0; r < args.run_count; ++r) {
    const GemmRun run = args.runs[r];
    const int8_t* w = args.panel + run.weight;
    int64_t k = run.input;
    const int64_t end = k + 4 * run.dwords;
    if constexpr (kUnroll > 1) {
      for (; k + 4 * kUnroll <= end; k += 4 * kUnroll, w += 64 * NV * kUnroll) {
        multiply<MR, NV, kUnroll>(pixels, k, w, acc);
      }
    }
    for (; k < end; k += 4, w += 64 * NV) multiply<MR, NV, 1>(pixels, k, w, acc);
  }

  if (finish == Finish::kCodes) return SaturatingTail<NV, false>(*args.tail_args).finish(acc, first);
  if (finish == Finish::kCodesOfResidual) return SaturatingTail<NV, true>(*args.tail_args).finish(acc, first);
  alignas(64) int32_t block[MR * NV * 16];
  int32_t* block_or_acc = args.acc != nullptr ? args.acc + first * NV * 16 : block;
#pragma GCC unroll 32
  for (int i = 0; i < MR; ++i) {
    int32_t* out = args.acc_rows != nullptr ? args.acc_rows[first + i] : block_or_acc + i * NV * 16;
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) _mm512_storeu_si512(out + 16 * j, acc[i][j]);
  }
  if (block_or_acc == block && args.acc_rows == nullptr)
    args.tail(*args.tail_args, block, first, MR, NV * 16);
}

/// Calls tile<m, NV> for a run-time m in [1, MR].
template <int MR, int NV>
void tile_of(int64_t m, const GemmArgs& args, Finish finish, int64_t first) {
  if constexpr (MR > 1) {
    if (m < MR) return tile_of<MR - 1, NV>(m, args, finish, first);
  }
  tile<MR, NV>(args, finish, first);
}

/// Pixels in tiles of nearly the same height, so that none is too low to hide the latency.
template <int MR, int NV>
void all_tiles(const GemmArgs& args) {
  const int64_t tiles = (args.m + MR - 1) / MR;
  const Finish finish = finish_of(args);
  int64_t first = 0;
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t m = (args.m - first + tiles - t - 1) / (tiles - t);
    tile_of<MR, NV>(m, args, finish, first);
    first += m;
  }
}

}  // namespace

void gemm_u8s8_avx512vnni(const GemmArgs& args) {
  switch (args.nr) {
    case 16:
      return all_tiles<24, 1>(args);
    case 32:
      return all_tiles<12, 2>(args);
    case 48:
      return all_tiles<8, 3>(args);
    default:
      return all_tiles<6, 4>(args);
  }
}

}  // namespace ptqx::kernels
