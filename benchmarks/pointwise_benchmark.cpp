// Bytes per second (read and written) of the kernels that move data, for every row the CPU supports:
// 16 Ki elements stay in the L1 and L2 caches, 16 Mi come from memory. `copy` is what the memory gives.

#include <benchmark/benchmark.h>

#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "kernels/fake_quantize.h"
#include "kernels/pool.h"
#include "kernels/quantize.h"
#include "kernels/reduce.h"

namespace ptqx::kernels {
namespace {

constexpr float kScale = 0.05F;
constexpr int32_t kZeroPoint = 117;

/// Memory aligned as torch's tensors are: a vector that crosses cache lines is slower.
template <class T>
struct CacheLineAllocator {
  using value_type = T;
  CacheLineAllocator() = default;
  template <class U>
  explicit CacheLineAllocator(const CacheLineAllocator<U>&) {}
  T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t{64})); }
  void deallocate(T* p, size_t) { ::operator delete(p, std::align_val_t{64}); }
  bool operator==(const CacheLineAllocator&) const = default;
};
template <class T>
using Buffer = std::vector<T, CacheLineAllocator<T>>;

Buffer<float> reals(int64_t n) {
  Buffer<float> x(static_cast<size_t>(n));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>((i * 2654435761U) % 4096) * 0.004F - 8.0F;
  return x;
}

void set_bytes(benchmark::State& state, int64_t bytes) {
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * bytes);
}

/// One benchmark a supported row and size: run(state, function, n).
template <class Fn, class Run>
void add_rows(std::span<const Row<Fn>> rows, Run run) {
  for (const Row<Fn>& row : rows) {
    if (!isa_supported(row.isa)) continue;
    benchmark::RegisterBenchmark(
        row.name,
        [run, function = row.function](benchmark::State& state) { run(state, function, state.range(0)); })
        ->Arg(1 << 14)
        ->Arg(1 << 24);
  }
}

Store store_of(int64_t n) { return n == 1 << 14 ? Store::kCached : Store::kStreamed; }

void copy(benchmark::State& state) {
  const int64_t n = state.range(0);
  const Buffer<float> x = reals(n);
  Buffer<float> y(x.size());
  for (auto _ : state) {
    std::memcpy(y.data(), x.data(), x.size() * sizeof(float));
    benchmark::ClobberMemory();
  }
  set_bytes(state, 8 * n);
}
BENCHMARK(copy)->Arg(1 << 14)->Arg(1 << 24);

void run_quantize(benchmark::State& state, QuantizeU8Fn* quantize, int64_t n) {
  const Buffer<float> x = reals(n);
  Buffer<uint8_t> y(x.size());
  for (auto _ : state) {
    quantize(x.data(), {1, 1, n}, &kScale, &kZeroPoint, 0, 255, y.data());
    benchmark::ClobberMemory();
  }
  set_bytes(state, 5 * n);
}

void run_dequantize(benchmark::State& state, DequantizeU8Fn* dequantize, int64_t n) {
  const Buffer<uint8_t> x(static_cast<size_t>(n), 3);
  Buffer<float> y(x.size());
  for (auto _ : state) {
    dequantize(x.data(), {1, 1, n}, &kScale, &kZeroPoint, y.data());
    benchmark::ClobberMemory();
  }
  set_bytes(state, 5 * n);
}

void run_nchw_to_nhwc(benchmark::State& state, QuantizeU8NchwToNhwcFn* quantize, int64_t n) {
  const Buffer<float> x = reals(n);
  Buffer<uint8_t> y(x.size());
  for (auto _ : state) {
    quantize(x.data(), 3, n / 3, kScale, kZeroPoint, 0, 255, y.data());
    benchmark::ClobberMemory();
  }
  set_bytes(state, 5 * (n / 3 * 3));
}

/// Per channel with the given number of consecutive elements a channel.
template <int64_t kInner>
void run_fake_quantize(benchmark::State& state, FakeQuantizeFn* fake_quantize, int64_t n) {
  constexpr int64_t kChannels = 64;
  const int64_t inner = kInner == 0 ? n / kChannels : kInner;
  const Blocks blocks{n / (kChannels * inner), kChannels, inner};
  const Buffer<float> x = reals(n);
  const std::vector<float> scale(kChannels, kScale);
  const std::vector<int32_t> zero_point(kChannels, kZeroPoint);
  Buffer<float> y(x.size());
  for (auto _ : state) {
    fake_quantize(x.data(), blocks, scale.data(), zero_point.data(), 0, 255, y.data(), store_of(n));
    benchmark::ClobberMemory();
  }
  state.SetLabel(std::to_string(inner) + " elements a channel");
  set_bytes(state, 8 * n);
}

void run_backward(benchmark::State& state, FakeQuantizeBackwardFn* backward, int64_t n) {
  const Buffer<float> x = reals(n);
  const Buffer<float> dy = reals(n);
  Buffer<float> dx(x.size());
  for (auto _ : state) {
    double sums[2];
    for (int64_t i = 0; i < n; i += kSumChunk) {
      backward(dy.data() + i, x.data() + i, kSumChunk, kScale, kZeroPoint, 0, 255, dx.data() + i, store_of(n),
               sums);
      benchmark::DoNotOptimize(sums);
    }
    benchmark::ClobberMemory();
  }
  set_bytes(state, 12 * n);
}

void run_min_max(benchmark::State& state, MinMaxFn* min_max, int64_t n) {
  const Buffer<float> x = reals(n);
  for (auto _ : state) benchmark::DoNotOptimize(min_max(x.data(), n));
  set_bytes(state, 4 * n);
}

void run_histogram(benchmark::State& state, HistogramFn* histogram, int64_t n) {
  const Buffer<float> x = reals(n);
  std::vector<int64_t> counts(2048);
  for (auto _ : state) benchmark::DoNotOptimize(histogram(x.data(), n, -8.0F, 8.5F, counts.data(), 2048));
  set_bytes(state, 4 * n);
}

/// VGG-11's first maps on CIFAR: 64 channels, 2x2 windows; n only scales the map.
PoolShape pool_shape(int64_t n) {
  const int64_t side = n == 1 << 14 ? 16 : 512;
  return {64, side, side, side / 2, side / 2, 2, 2, 2, 2, 0, 0, 1, 1};
}

void run_max_pool(benchmark::State& state, MaxPool2dU8Fn* max_pool, int64_t n) {
  const PoolShape shape = pool_shape(n);
  const int64_t outputs = shape.oh * shape.ow * shape.c;
  const Buffer<uint8_t> x(static_cast<size_t>(4 * outputs), 3);
  Buffer<uint8_t> y(static_cast<size_t>(outputs));
  for (auto _ : state) {
    max_pool(x.data(), shape, y.data());
    benchmark::ClobberMemory();
  }
  set_bytes(state, 5 * outputs);
}

void run_avg_pool(benchmark::State& state, AvgPool2dU8Fn* avg_pool, int64_t n) {
  const PoolShape shape = pool_shape(n);
  const AvgPoolArgs args{0, 0.9F, 0, 0, true, 0, 0, 0, 255};
  const int64_t outputs = shape.oh * shape.ow * shape.c;
  const Buffer<uint8_t> x(static_cast<size_t>(4 * outputs), 3);
  Buffer<uint8_t> y(static_cast<size_t>(outputs));
  for (auto _ : state) {
    avg_pool(x.data(), shape, args, y.data());
    benchmark::ClobberMemory();
  }
  set_bytes(state, 5 * outputs);
}

const bool kRegistered = [] {
  add_rows(quantize_u8_rows(), run_quantize);
  add_rows(dequantize_u8_rows(), run_dequantize);
  add_rows(quantize_u8_nchw_to_nhwc_rows(), run_nchw_to_nhwc);
  add_rows(fake_quantize_rows(), run_fake_quantize<0>);
  add_rows(fake_quantize_rows(), run_fake_quantize<1>);
  add_rows(fake_quantize_backward_rows(), run_backward);
  add_rows(min_max_rows(), run_min_max);
  add_rows(histogram_rows(), run_histogram);
  add_rows(max_pool2d_u8_rows(), run_max_pool);
  add_rows(avg_pool2d_u8_rows(), run_avg_pool);
  return true;
}();

}  // namespace
}  // namespace ptqx::kernels
