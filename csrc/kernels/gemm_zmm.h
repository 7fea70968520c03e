#pragma once

// The 512-bit gemm: tiles of 6 x 64, 8 x 48, 12 x 32 or 24 x 16 accumulators in 24 of 32 registers. What a
// dword of the panel holds and how it meets one of the input is `Codes`:
//   kPerByte          dwords in one row of the panel's memory
//   dword(w, index)   16 columns of dword `index` of the row at w
//   dot(acc, x, w)    the sum continued
//   kSums             whether that is the sum itself: then accumulators begin with the layer's, else at 0
//   sum(acc)          the sum, where it is not
//   kOfGroups         whether columns read different dwords: then multiply_run(args, run, pixels, acc)
//                     continues the sums of a run, and nothing else is needed but kSums

#include <cstring>

#include "kernels/conv_tail_avx512.h"
#include "kernels/gemm.h"

namespace ptqx::kernels {
namespace {

constexpr int64_t kPrefetchBytes = 2048;  // how far ahead of the multiplication the panel is fetched

/// What follows a panel in memory, fetched into the second-level cache a line for every row of the panel: NV
/// tiles fetch as much as they read.
struct NextLines {
  const int8_t* line;
  int64_t step;
};

inline __m512i broadcast_dword(const uint8_t* x) {
  int32_t dword;
  std::memcpy(&dword, x, sizeof dword);
  return _mm512_set1_epi32(dword);
}

/// How many dwords are multiplied per pass over the pixels. The base pointers of many pixels do not fit into
/// registers; where they are reloaded, the load pays for several dwords.
constexpr int unroll_of(int nv) { return nv == 1 ? 4 : nv == 2 ? 2 : 1; }

/// Dwords [First, First + Dwords) of those that begin at w.
template <class Codes, int MR, int NV, int Dwords, int First>
[[gnu::always_inline]] inline void multiply(const uint8_t* const (&pixels)[MR], int64_t k, const int8_t* w,
                                            NextLines& next, __m512i (&acc)[MR][NV]) {
  __m512i weights[Dwords][NV];
#pragma GCC unroll 4
  for (int d = 0; d < Dwords; ++d) {
    const int8_t* row = w + (First + d) / Codes::kPerByte * NV * 64;
    const int index = (First + d) % Codes::kPerByte;
    if (index == 0) {
      _mm_prefetch(next.line, _MM_HINT_T1);
      next.line += next.step;
    }
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) {
      weights[d][j] = Codes::dword(row + 64 * j, index);
      if (index == 0) _mm_prefetch(row + kPrefetchBytes + 64 * j, _MM_HINT_T0);
    }
  }
#pragma GCC unroll 32
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 4
    for (int d = 0; d < Dwords; ++d) {
      const __m512i x = broadcast_dword(pixels[i] + k + 4 * (First + d));
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) acc[i][j] = Codes::dot(acc[i][j], x, weights[d][j]);
    }
  }
}

/// Dwords [First, Step), in passes of at most unroll_of(NV).
template <class Codes, int MR, int NV, int Step, int First = 0>
[[gnu::always_inline]] inline void step(const uint8_t* const (&pixels)[MR], int64_t k, const int8_t* w,
                                        NextLines& next, __m512i (&acc)[MR][NV]) {
  constexpr int kDwords = Step < unroll_of(NV) ? Step : unroll_of(NV);
  multiply<Codes, MR, NV, kDwords, First>(pixels, k, w, next, acc);
  if constexpr (First + kDwords < Step) {
    // Bytes of two codes are loaded twice: kept in registers from one pass to the next, they would push out
    // accumulators.
    __asm__("" : "+r"(w));
    step<Codes, MR, NV, Step, First + kDwords>(pixels, k, w, next, acc);
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

/// use(row, vector, start) for every accumulator: `start` is what its sum is added to.
template <int MR, int NV, class Use>
[[gnu::always_inline]] inline void for_each_start(const GemmArgs& args, int64_t first, const Use& use) {
  if (args.acc_rows == nullptr) {
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) {
      const __m512i start = _mm512_loadu_si512(args.init + 16 * j);
#pragma GCC unroll 32
      for (int i = 0; i < MR; ++i) use(i, j, start);
    }
    return;
  }
#pragma GCC unroll 32
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) use(i, j, _mm512_loadu_si512(args.acc_rows[first + i] + 16 * j));
  }
}

template <class Codes, int MR, int NV>
[[gnu::always_inline]] inline void begin_sums(const GemmArgs& args, int64_t first, __m512i (&acc)[MR][NV]) {
  const __m512i zero = _mm512_setzero_si512();
  for_each_start<MR, NV>(
      args, first, [&](int i, int j, __m512i start) __attribute__((always_inline)) {
        acc[i][j] = Codes::kSums ? start : zero;
      });
}

template <class Codes, int MR, int NV>
[[gnu::always_inline]] inline void end_sums(const GemmArgs& args, int64_t first, __m512i (&acc)[MR][NV]) {
  if constexpr (!Codes::kSums) {
    for_each_start<MR, NV>(
        args, first, [&](int i, int j, __m512i start) __attribute__((always_inline)) {
          acc[i][j] = _mm512_add_epi32(start, Codes::sum(acc[i][j]));
        });
  }
}

template <class Codes, int MR, int NV>
[[gnu::always_inline]] inline void multiply_run(const GemmArgs& args, const GemmRun& run, int64_t index,
                                                const uint8_t* const (&pixels)[MR], __m512i (&acc)[MR][NV]) {
  constexpr int kLeast = Codes::kPerByte;
  constexpr int kStep = kLeast > unroll_of(NV) ? kLeast : unroll_of(NV);
  const int8_t* w = args.panel + run.weight / kLeast * NV * 64;
  const int64_t rows = run.dwords / kLeast;
  NextLines next{w, 0};
  if (args.streamed && index < NV) next = {w + rows * (NV + index) * 64, 64};
  int64_t k = run.input;
  const int64_t end = k + 4 * run.dwords;
  for (; k + 4 * kStep <= end; k += 4 * kStep, w += kStep / kLeast * NV * 64) {
    step<Codes, MR, NV, kStep>(pixels, k, w, next, acc);
  }
  if constexpr (kStep > kLeast) {
    for (; k < end; k += 4 * kLeast, w += NV * 64) step<Codes, MR, NV, kLeast>(pixels, k, w, next, acc);
  }
}

/// MR pixels x NV vectors of 16 channels; every loop over them is unrolled, so that the accumulators
/// are registers.
template <class Codes, int MR, int NV>
void tile(const GemmArgs& args, Finish finish, int64_t first, int64_t index) {
  __m512i acc[MR][NV];
  const uint8_t* pixels[MR];
#pragma GCC unroll 32
  for (int i = 0; i < MR; ++i) pixels[i] = args.pixels[first + i];
  begin_sums<Codes>(args, first, acc);
  for (int64_t r = 0; r < args.run_count; ++r) {
    if constexpr (Codes::kOfGroups) {
      Codes::multiply_run(args, args.runs[r], pixels, acc);
    } else {
      multiply_run<Codes>(args, args.runs[r], index, pixels, acc);
    }
  }
  end_sums<Codes>(args, first, acc);
  if (finish != Finish::kStore) {
    if (finish == Finish::kCodes) return SaturatingTail<NV, false>(*args.tail_args).finish(acc, first);
    return SaturatingTail<NV, true>(*args.tail_args).finish(acc, first);
  }
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

/// Calls tile<Codes, m, NV> for a run-time m in [1, MR].
template <class Codes, int MR, int NV>
void tile_of(int64_t m, const GemmArgs& args, Finish finish, int64_t first, int64_t index) {
  if constexpr (MR > 1) {
    if (m < MR) return tile_of<Codes, MR - 1, NV>(m, args, finish, first, index);
  }
  tile<Codes, MR, NV>(args, finish, first, index);
}

/// Pixels in tiles of nearly the same height, so that none is too low to hide the latency.
template <class Codes, int MR, int NV>
void all_tiles(const GemmArgs& args) {
  const int64_t tiles = (args.m + MR - 1) / MR;
  const Finish finish = finish_of(args);
  int64_t first = 0;
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t m = (args.m - first + tiles - t - 1) / (tiles - t);
    // Fewer tiles than NV take the panel as fast as it comes, which leaves no time to fetch more.
    tile_of<Codes, MR, NV>(m, args, finish, first, tiles < NV ? NV : t);
    first += m;
  }
}

template <class Codes>
void gemm_zmm(const GemmArgs& args) {
  switch (args.nr) {
    case 16:
      return all_tiles<Codes, 24, 1>(args);
    case 32:
      return all_tiles<Codes, 12, 2>(args);
    case 48:
      return all_tiles<Codes, 8, 3>(args);
    default:
      return all_tiles<Codes, 6, 4>(args);
  }
}

}  // namespace
}  // namespace ptqx::kernels
