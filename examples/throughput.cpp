// How fast a .ptqx file runs here: images a second, latency, memory.
//     throughput MODEL.ptqx [--batch 1] [--threads 1] [--seconds 3] [--tune SECONDS]
// --tune first measures for so long which ways to compute the layers are the fastest here.

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <stdexcept>
#include <vector>

#include "arguments.h"
#include "engine/engine.h"

namespace {

using Clock = std::chrono::steady_clock;

/// Seconds of every run, after a tenth of the time spent unmeasured.
std::vector<double> timed_runs(const ptqx::engine::Engine& engine, int64_t batch,
                               const ptqx::engine::Executor& executor, double seconds) {
  std::mt19937 random(0);
  std::normal_distribution<float> normal;
  std::vector<float> input(static_cast<size_t>(batch * engine.input_size()));
  for (float& value : input) value = normal(random);
  std::vector<std::vector<float>> outputs;
  std::vector<float*> places;
  for (const ptqx::engine::OutputInfo& output : engine.outputs()) {
    outputs.emplace_back(static_cast<size_t>(batch * output.size));
    places.push_back(outputs.back().data());
  }

  std::vector<double> runs;
  const auto start = Clock::now();
  const auto since = [](Clock::time_point then) {
    return std::chrono::duration<double>(Clock::now() - then).count();
  };
  do {
    const bool warm = since(start) > 0.1 * seconds;
    const auto begin = Clock::now();
    engine.run(input.data(), batch, places, executor);
    if (warm) runs.push_back(since(begin));
  } while (since(start) < 1.1 * seconds || runs.empty());
  std::sort(runs.begin(), runs.end());
  return runs;
}

void measure(const Arguments& arguments) {
  auto engine = ptqx::engine::Engine::open(arguments.rest()[0]);
  const int64_t batch = arguments.whole("--batch", 1, 1, 65536);
  const int threads = static_cast<int>(arguments.whole("--threads", 1, 1, 1024));
  const double seconds = arguments.number("--seconds", 3, 0.001, 3600);
  const double tuning = arguments.number("--tune", 0, 0, 3600);
  const ptqx::engine::ThreadExecutor executor(threads);
  if (tuning > 0) engine.use(engine.tune(engine.tunable_steps(batch, threads), executor, tuning));
  const std::vector<double> runs = timed_runs(engine, batch, executor, seconds);

  double total = 0;
  for (const double run : runs) total += run;
  const auto at = [&](double share) {
    return 1e3 * runs[static_cast<size_t>(share * static_cast<double>(runs.size() - 1))];
  };
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::printf("batch %lld, threads %d, %zu runs\n", static_cast<long long>(batch), threads, runs.size());
  std::printf("throughput  %.1f images/s\n",
              static_cast<double>(batch) * static_cast<double>(runs.size()) / total);
  std::printf("latency     %.3f ms median, %.3f ms p90, %.3f ms p99, %.3f ms largest\n", at(0.5), at(0.9),
              at(0.99), at(1));
  std::printf(
      "memory      %zu bytes of weights and plan, %zu bytes of activations, %ld KiB peak of the process\n",
      engine.packed_bytes(), engine.arena_bytes(batch, threads), usage.ru_maxrss);
}

}  // namespace

int main(int argc, char** argv) try {
  const Arguments arguments(argc, argv, {"--batch", "--threads", "--seconds", "--tune"});
  if (arguments.rest().size() != 1) {
    std::fprintf(stderr,
                 "usage: throughput MODEL.ptqx [--batch 1] [--threads 1] [--seconds 3] [--tune SECONDS]\n");
    return 2;
  }
  measure(arguments);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 2;
}
