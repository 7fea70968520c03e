#pragma once

// What a core can do at most: multiply-accumulates from registers alone, and reading from memory. Other
// kernels are judged as a share of it. The results are of no use; the time is.

#include <cstdint>
#include <span>

#include "kernels/dispatch.h"

namespace ptqx::kernels {

/// Multiply-accumulates on operands that stay in registers, with as many independent accumulators as
/// hide the latency. Returns how many were made: `rounds` times a constant of the row.
using CeilingFn = int64_t(int64_t rounds);

/// u8 times s8 into int32, the arithmetic of convolution.
CeilingFn u8s8_ceiling;
std::span<const Row<CeilingFn>> u8s8_ceiling_rows();

/// float32, fused where the CPU fuses.
CeilingFn f32_ceiling;
std::span<const Row<CeilingFn>> f32_ceiling_rows();

/// Sum modulo 2^64 of `n` words in order of memory: the same on every ISA.
using StreamReadFn = uint64_t(const uint64_t* words, int64_t n);
StreamReadFn stream_read;
std::span<const Row<StreamReadFn>> stream_read_rows();

}  // namespace ptqx::kernels
