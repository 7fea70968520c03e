#pragma once

// What a plan is made of. A step reads and writes buffers; where they lie is decided per run. Its work on
// some samples is a number of items, which workers claim (team.h).

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace ptqx::engine {

/// Buffer 0 is the caller's input, the next ones are the caller's outputs, all in NCHW order; the others lie
/// in the arena.
inline constexpr int kInputBuffer = 0;
inline constexpr int kFirstOutputBuffer = 1;

/// One pass over the steps with some samples of the batch.
struct Run {
  std::vector<uint8_t*> buffers;
  std::atomic<int64_t>& nonfinite_inputs;  // counted, for the caller's message

  template <class T>
  T* at(int buffer) const {
    return reinterpret_cast<T*>(buffers[static_cast<size_t>(buffer)]);
  }
};

/// What a step does for a fixed number of samples: items that any number of workers may compute in any
/// order.
struct Work {
  int64_t items;
  std::function<void(const Run&, int64_t begin, int64_t end)> run;
  size_t scratch_bytes = 0;   // of every worker, beside the buffers
  std::string strategy = {};  // of those that there are, the one that runs
  std::string kernel = {};    // if the strategy decides
};

/// Several ways to compute a step (tuning.h).
struct Strategies {
  std::string layer;
  /// Their names, the one that runs unasked first.
  std::function<std::vector<std::string>(int64_t samples, int threads)> names;
  /// As Step::work; a name that is none of them means the first.
  std::function<Work(int64_t samples, int threads, const std::string& strategy)> work;
};

struct Step {
  std::string name, op;
  std::vector<int> reads, writes;  // buffers
  /// Of `reads`, if not -1: where writes[0] may come to lie, because whoever writes an element has read the
  /// one in its place before, and nobody else does.
  int overwrites = -1;
  /// The work on `samples` samples, split for `threads` workers. Made once and run many times.
  std::function<Work(int64_t samples, int threads)> work;
  std::optional<Strategies> strategies = {};

  // For steps() and the memory totals.
  std::string kernel = {};
  bool suits_tiles = false;  // a matrix unit may take over from that kernel
  int64_t macs = 0;          // multiplications a sample, those with padding included
  int64_t useful_macs = 0;   // without them
  size_t bytes = 0;          // packed weights and tables
};

/// Less is not worth a claim.
inline constexpr int64_t kItemBytes = 16384;

/// body(run, sample, begin, end) on all `rows` of all samples, in blocks of a few rows.
template <class Body>
Work row_work(int64_t samples, int64_t rows, int64_t bytes_per_row, Body body) {
  const int64_t block = std::clamp(kItemBytes / std::max(bytes_per_row, int64_t{1}), int64_t{1}, rows);
  const int64_t blocks = (rows + block - 1) / block;
  return {samples * blocks, [=](const Run& run, int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i) {
              const int64_t first = i % blocks * block;
              body(run, i / blocks, first, std::min(first + block, rows));
            }
          }};
}

/// body(run, begin, end) on all `count` elements.
template <class Body>
Work element_work(int64_t count, int64_t bytes_per_element, Body body) {
  const int64_t block = kItemBytes / bytes_per_element;
  return {(count + block - 1) / block, [=](const Run& run, int64_t begin, int64_t end) {
            body(run, begin * block, std::min(end * block, count));
          }};
}

}  // namespace ptqx::engine
