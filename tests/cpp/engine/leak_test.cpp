// What runs leave behind: nothing. Every operator new and delete of this program is counted; under a
// sanitizer, which has its own, only the results are compared.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "graph_builder.h"

namespace {

std::atomic<int64_t> live_allocations{0};

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
constexpr bool kCounted = true;

void* counted(void* memory) {
  if (memory == nullptr) throw std::bad_alloc();
  live_allocations.fetch_add(1, std::memory_order_relaxed);
  return memory;
}

void release(void* memory) {
  if (memory == nullptr) return;
  live_allocations.fetch_sub(1, std::memory_order_relaxed);
  std::free(memory);
}
#else
constexpr bool kCounted = false;
#endif

}  // namespace

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// The other forms call these.
void* operator new(size_t size) { return counted(std::malloc(size)); }
void* operator new(size_t size, std::align_val_t alignment) {
  const auto step = static_cast<size_t>(alignment);
  return counted(std::aligned_alloc(step, (size + step - 1) / step * step));
}
void operator delete(void* memory) noexcept { release(memory); }
void operator delete(void* memory, size_t) noexcept { release(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { release(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { release(memory); }
#endif

namespace ptqx::engine {
namespace {

constexpr int kCallers = 8, kRunsOfACaller = 1250;

std::vector<uint8_t> small_network() {
  testing::GraphBuilder b({3, 6, 6});
  testing::Made x = b.quantize(b.input, {4.0F / 255.0F, 128});
  x = b.conv2d(x, {.out = 8, .padding = {1, 1, 1, 1}});
  x = b.moved("flatten", {x}, {8 * 36}, {{"start_dim", 1}});
  return b.finish(b.linear(x, {.out = 10, .float_output = true})).bytes();
}

/// Runs of batches of 1 to 3 samples from all callers at a time; returns how many gave other numbers than the
/// first of their size.
int64_t run_from_all_callers(const Engine& engine, const Executor& executor, int runs) {
  std::atomic<int64_t> wrong = 0;
  std::vector<std::thread> callers;
  for (int caller = 0; caller < kCallers; ++caller) {
    callers.emplace_back([&, batch = int64_t{1} + caller % 3] {
      std::vector<float> input(static_cast<size_t>(batch * engine.input_size()));
      for (size_t i = 0; i < input.size(); ++i) input[i] = static_cast<float>(i % 17) / 8.0F - 1.0F;
      std::vector<float> expected(static_cast<size_t>(batch * engine.output_size()));
      std::vector<float> output(expected.size());
      engine.run(input.data(), batch, expected.data(), SerialExecutor());
      for (int run = 0; run < runs; ++run) {
        engine.run(input.data(), batch, output.data(), executor);
        if (output != expected) ++wrong;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  return wrong;
}

TEST(Leak, ten_thousand_runs_from_eight_callers_leave_nothing_behind) {
  const std::vector<uint8_t> bytes = small_network();
  const auto lifetime = [&] {
    const Engine engine = Engine::from_bytes(bytes);
    const ThreadExecutor executor(2);
    EXPECT_EQ(run_from_all_callers(engine, executor, 100), 0);
    const int64_t warm = live_allocations;
    EXPECT_EQ(run_from_all_callers(engine, executor, kRunsOfACaller), 0);
    // Each caller may have been the first to need one more block of activations, which are kept.
    EXPECT_LE(live_allocations - warm, 2 * kCallers);
  };
  lifetime();  // what the system makes once for all threads exists from here on
  const int64_t before = live_allocations;
  lifetime();
  EXPECT_EQ(live_allocations, before);
  if (kCounted) {
    const auto one_more = std::make_unique<int>(0);
    EXPECT_EQ(live_allocations, before + 1) << "the counter counts";
  }
}

}  // namespace
}  // namespace ptqx::engine
