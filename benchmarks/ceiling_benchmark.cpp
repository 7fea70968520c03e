// What the machine can do at most, for every row that the CPU supports: multiply-accumulates from registers
// alone, and reading from buffers of four times the last-level cache.

#include <benchmark/benchmark.h>

#include <vector>

#include "engine/machine.h"
#include "kernels/ceiling.h"

namespace ptqx::kernels {
namespace {

void run_macs(benchmark::State& state, CeilingFn* ceiling) {
  int64_t macs = 0;
  for (auto _ : state) macs += ceiling(10'000);
  state.counters["MACs"] = benchmark::Counter(static_cast<double>(macs), benchmark::Counter::kIsRate);
}

void run_read(benchmark::State& state, StreamReadFn* read) {
  const std::vector<uint64_t> words(static_cast<size_t>(engine::last_level_cache_bytes() / 2), 1);
  for (auto _ : state) benchmark::DoNotOptimize(read(words.data(), static_cast<int64_t>(words.size())));
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * words.size() * sizeof(uint64_t)));
}

template <class Fn, class Run>
void add_rows(std::span<const Row<Fn>> rows, Run run) {
  for (const Row<Fn>& row : rows) {
    if (!isa_supported(row.isa)) continue;
    benchmark::RegisterBenchmark(
        row.name, [run, function = row.function](benchmark::State& state) { run(state, function); });
  }
}

const bool kRegistered = [] {
  add_rows(u8s8_ceiling_rows(), run_macs);
  add_rows(f32_ceiling_rows(), run_macs);
  add_rows(stream_read_rows(), run_read);
  return true;
}();

}  // namespace
}  // namespace ptqx::kernels
