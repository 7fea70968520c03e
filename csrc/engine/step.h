#pragma once

// What a plan is made of. A step reads and writes buffers; where they lie is decided per run.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/executor.h"

namespace ptqx::engine {

/// Buffers 0 and 1 are the caller's input and output, in NCHW order; the others lie in the arena.
inline constexpr int kInputBuffer = 0;
inline constexpr int kOutputBuffer = 1;

/// One pass over the steps with some samples of the batch.
struct Run {
  int64_t samples;
  const Executor& executor;
  std::vector<uint8_t*> buffers;
  uint8_t* scratch;

  template <class T>
  T* at(int buffer) const {
    return reinterpret_cast<T*>(buffers[static_cast<size_t>(buffer)]);
  }
};

struct Step {
  std::string name, op;
  std::vector<int> reads, writes;  // buffers
  std::function<void(const Run&)> run;

  // For describe() and the memory totals.
  std::string kernel = {};
  int64_t macs = 0;  // multiplications a sample
  size_t bytes = 0;  // packed weights and tables
  /// Scratch memory that a run may need; empty if none.
  std::function<size_t(int64_t samples, int threads)> scratch_bytes = {};
};

/// Work below this is not worth waking another thread for.
inline constexpr int64_t kBlockBytes = 16384;

/// Calls body(sample, begin, end) until all `rows` of all samples are done, in blocks of a few rows.
template <class Body>
void for_rows(const Run& run, int64_t rows, int64_t bytes_per_row, Body body) {
  const int64_t block = std::clamp(kBlockBytes / bytes_per_row, int64_t{1}, rows);
  const int64_t blocks = (rows + block - 1) / block;
  const auto work = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i % blocks * block;
      body(i / blocks, first, std::min(first + block, rows));
    }
  };
  if (run.samples * rows * bytes_per_row <= kBlockBytes) {
    work(0, run.samples * blocks);
  } else {
    run.executor.parallel_for(run.samples * blocks, work);
  }
}

/// Calls body(begin, end) until all `count` elements are done.
template <class Body>
void for_elements(const Run& run, int64_t count, int64_t bytes_per_element, Body body) {
  const int64_t block = kBlockBytes / bytes_per_element;
  const int64_t blocks = (count + block - 1) / block;
  const auto work = [&](int64_t begin, int64_t end) { body(begin * block, std::min(end * block, count)); };
  if (blocks <= 1) {
    work(0, blocks);
  } else {
    run.executor.parallel_for(blocks, work);
  }
}

}  // namespace ptqx::engine
