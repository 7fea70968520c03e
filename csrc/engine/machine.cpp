#include "engine/machine.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "kernels/ceiling.h"

namespace ptqx::engine {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kRuns = 5;  // the best one counts

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Does a piece of work and returns how much it was.
using Work = std::function<double()>;

/// Binds the calling thread to the `index`th CPU that it may use. Unbound, two threads may share one CPU for
/// longer than a measurement takes. More threads than CPUs, or a system that refuses, stay as they are.
void bind_to_cpu([[maybe_unused]] int index) {
#ifdef __linux__
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || index-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
    return;
  }
#endif
}

/// Work per second of all threads together; `prepare(thread)` is called on the thread that works.
template <class Prepare>
double rate(int threads, double seconds, const Prepare& prepare) {
  std::vector<double> rates(static_cast<size_t>(threads) * kRuns);
  std::vector<std::exception_ptr> errors(static_cast<size_t>(threads));
  std::barrier start(threads);
  const auto worker = [&](int thread) {
    bind_to_cpu(thread);
    Work work;
    try {
      work = prepare();
      work();
    } catch (...) {  // no memory for the buffers
      errors[static_cast<size_t>(thread)] = std::current_exception();
      start.arrive_and_drop();
      return;
    }
    for (int run = 0; run < kRuns; ++run) {
      start.arrive_and_wait();
      const Clock::time_point began = Clock::now();
      double done = 0;
      double elapsed = 0;
      do {
        done += work();
        elapsed = seconds_since(began);
      } while (elapsed < seconds / kRuns);
      rates[static_cast<size_t>(run * threads + thread)] = done / elapsed;
    }
  };
  {
    std::vector<std::jthread> workers;  // none of them the caller's, which keeps its CPUs
    for (int thread = 0; thread < threads; ++thread) workers.emplace_back(worker, thread);
  }
  for (const std::exception_ptr& error : errors) {
    if (error != nullptr) std::rethrow_exception(error);
  }
  double best = 0;
  for (size_t run = 0; run < kRuns; ++run) {
    double sum = 0;
    for (size_t thread = 0; thread < static_cast<size_t>(threads); ++thread) {
      sum += rates[run * static_cast<size_t>(threads) + thread];
    }
    best = std::max(best, sum);
  }
  return best;
}

using Words = std::vector<uint64_t>;
constexpr int64_t kWordBytes = sizeof(uint64_t);

}  // namespace

int64_t second_level_cache_bytes() {
#ifdef _SC_LEVEL2_CACHE_SIZE
  static const int64_t size = sysconf(_SC_LEVEL2_CACHE_SIZE);
  if (size > 0) return size;
#endif
  return int64_t{1} << 20;
}

int64_t last_level_cache_bytes() {
#ifdef _SC_LEVEL3_CACHE_SIZE
  static const int64_t size = sysconf(_SC_LEVEL3_CACHE_SIZE);
  if (size > 0) return size;
#endif
  return int64_t{32} << 20;
}

MachineRates measure_machine(int threads, double seconds, int64_t buffer_bytes) {
  if (threads < 1)
    throw std::invalid_argument("threads: expected at least 1, got " + std::to_string(threads));
  if (!(seconds > 0))
    throw std::invalid_argument("seconds: expected a positive time, got " + std::to_string(seconds));
  if (buffer_bytes < 0) {
    throw std::invalid_argument("buffer_bytes: expected at least 0, got " + std::to_string(buffer_bytes));
  }
  const int64_t total = buffer_bytes > 0 ? buffer_bytes : 4 * last_level_cache_bytes();
  const auto words = static_cast<size_t>(std::max<int64_t>(total / threads / kWordBytes, 1));
  const auto bytes = static_cast<double>(words * kWordBytes);

  const auto macs = [](kernels::CeilingFn* ceiling) {
    return [ceiling] { return Work([ceiling] { return static_cast<double>(ceiling(10'000)); }); };
  };
  const auto reading = [&] {
    return Work([buffer = std::make_shared<Words>(words, 1), bytes] {
      volatile uint64_t sum = kernels::stream_read(buffer->data(), static_cast<int64_t>(buffer->size()));
      static_cast<void>(sum);
      return bytes;
    });
  };
  const auto copying = [&] {
    return Work([from = std::make_shared<Words>(words, 1), to = std::make_shared<Words>(words), bytes] {
      std::memcpy(to->data(), from->data(), from->size() * kWordBytes);
      return 2 * bytes;
    });
  };
  return {.u8s8_macs = rate(threads, seconds, macs(kernels::u8s8_ceiling)),
          .f32_macs = rate(threads, seconds, macs(kernels::f32_ceiling)),
          .read_bytes = rate(threads, seconds, reading),
          .copy_bytes = rate(threads, seconds, copying)};
}

}  // namespace ptqx::engine
