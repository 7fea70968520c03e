// Every gemm row the CPU supports, one thread: how fast weights of 8 and of 4 bits meet a number of pixels
// when they come from the L2 cache, from the L3 cache, and from memory. The last walks over ten matrices of
// 4096 x 4096, more than twice the largest cache also at 4 bits. `macs` counts multiply-accumulates.

#include <benchmark/benchmark.h>

#include <new>
#include <string>
#include <vector>

#include "kernels/gemm.h"

namespace ptqx::kernels {
namespace {

constexpr int64_t kDwords = 1024;  // 4096 input codes
constexpr int64_t kPixels = 96;

struct Place {
  const char* name;
  int64_t codes;
};
constexpr Place kPlaces[] = {{"L2", 1 << 19}, {"L3", 1 << 23}, {"memory", 10 << 24}};

/// Panels on cache lines, as packed weights are. What the codes are does not matter.
class Panels {
 public:
  explicit Panels(int64_t bytes)
      : data_(static_cast<int8_t*>(::operator new(static_cast<size_t>(bytes), kAlignment))) {
    for (int64_t i = 0; i < bytes; ++i) data_[i] = static_cast<int8_t>(i * 37);
  }
  ~Panels() { ::operator delete(data_, kAlignment); }
  Panels(const Panels&) = delete;
  Panels& operator=(const Panels&) = delete;
  const int8_t* data() const { return data_; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  int8_t* data_;
};

void run_gemm(benchmark::State& state, const Row<GemmFn>& row, int64_t codes_per_byte, int64_t m,
              int64_t codes) {
  const int64_t nr = gemm_panel_width(row.isa, 4096);
  const int64_t panel_codes = kDwords * 4 * nr;
  const Panels panels(codes / codes_per_byte);
  const std::vector<uint8_t> input(static_cast<size_t>(kPixels * kDwords * 4), 3);
  std::vector<const uint8_t*> pixels;
  for (int64_t i = 0; i < m; ++i) pixels.push_back(input.data() + i * kDwords * 4);
  const GemmRun run{0, 0, kDwords};
  const std::vector<int32_t> init(static_cast<size_t>(nr), 0);
  std::vector<int32_t> acc(static_cast<size_t>(m * nr));
  for (auto _ : state) {
    for (int64_t code = 0; code < codes; code += panel_codes) {
      row.function({.pixels = pixels.data(),
                    .m = m,
                    .runs = &run,
                    .run_count = 1,
                    .panel = panels.data() + code / codes_per_byte,
                    .nr = nr,
                    .init = init.data(),
                    .acc = acc.data(),
                    .acc_rows = nullptr,
                    .tail = nullptr,
                    .tail_args = nullptr});
    }
    benchmark::ClobberMemory();
  }
  state.counters["macs"] =
      benchmark::Counter(static_cast<double>(codes * m), benchmark::Counter::kIsIterationInvariantRate);
}

void add_rows(std::span<const Row<GemmFn>> rows, int64_t codes_per_byte) {
  for (const Row<GemmFn>& row : rows) {
    if (row.isa == Isa::kScalar || !isa_supported(row.isa)) continue;
    for (const Place& place : kPlaces) {
      for (const int64_t m : {int64_t{1}, int64_t{4}, int64_t{16}, kPixels}) {
        if (m > 4 && place.codes > 1 << 23) continue;
        const std::string name =
            std::string("Gemm/") + row.name + "/" + place.name + "/pixels:" + std::to_string(m);
        benchmark::RegisterBenchmark(name.c_str(), [=, &row](benchmark::State& state) {
          run_gemm(state, row, codes_per_byte, m, place.codes);
        })->Unit(benchmark::kMicrosecond);
      }
    }
  }
}

const bool registered = [] {
  add_rows(gemm_u8s8_rows(), 1);
  add_rows(gemm_u8s4_rows(), 2);
  add_rows(gemm_binary_rows(), 8);
  return true;
}();

}  // namespace
}  // namespace ptqx::kernels
