#pragma once

// Which kernel runs. Each family of kernels (one contract, one function type) lists its rows, one
// per implementation; dispatch, tests and benchmarks walk the same rows. A faster kernel is a new
// file and a new row.

#include <span>

#include "kernels/types.h"

namespace ptqx::kernels {

/// One implementation of a family. `Fn` is the family's function type.
template <class Fn>
struct Row {
  const char* name;  // as in gemm_u8s8_6x64c4_avx512vnni
  Isa isa;
  Fn* function;
};

/// All of them, in the order of the enumeration.
inline constexpr Isa kIsas[] = {Isa::kScalar,          Isa::kAvx2,   Isa::kAvxVnni, Isa::kAvx512Vnni,
                                Isa::kAvx512Vpopcntdq, Isa::kAmxInt8};

/// "scalar", "avx2", "avxvnni", "avx512vnni", "avx512vpopcntdq" (VPOPCNTDQ and VBMI beside AVX-512 VNNI),
/// "amxint8" (AMX's tiles of bytes beside AVX-512 VNNI).
const char* isa_name(Isa isa);

/// Whether this CPU and operating system can run code of `isa`. Asked for the first time, it asks Linux to
/// let the process use AMX where the CPU has it.
bool isa_supported(Isa isa);

/// By its vendor: what instructions cost beside one another depends on it.
bool cpu_is_intel();

/// The highest instruction set that kernels may use: the best supported one, lowered by the
/// environment variable PTQX_ISA. Throws std::invalid_argument if PTQX_ISA names an unknown or an
/// unsupported one. Read once.
Isa isa_ceiling();

/// Lowers or raises the ceiling for the calling process (tests, benchmarks, comparison of ISAs).
/// Throws std::invalid_argument if the CPU does not support `isa`.
void set_isa_ceiling(Isa isa);

/// May a kernel of `row` run under `ceiling`? The levels are not a chain: AVX-512 VNNI parts may
/// lack AVX-VNNI, so support is asked as well as order.
inline bool isa_allowed(Isa row, Isa ceiling) { return row <= ceiling && isa_supported(row); }

/// The last allowed row: rows are listed from slowest to fastest.
template <class Fn>
const Row<Fn>& best_row(std::span<const Row<Fn>> rows) {
  const Isa ceiling = isa_ceiling();
  const Row<Fn>* best = &rows.front();
  for (const Row<Fn>& row : rows) {
    if (isa_allowed(row.isa, ceiling)) best = &row;
  }
  return *best;
}

}  // namespace ptqx::kernels
