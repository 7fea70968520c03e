#include "engine/engine.h"

#include <atomic>
#include <cstdio>
#include <limits>
#include <new>
#include <thread>
#include <utility>

#include "engine/container.h"
#include "engine/plan.h"
#include "engine/program.h"
#include "engine/text.h"
#include "kernels/reduce.h"

namespace ptqx::engine {
namespace {

/// A batch is run in chunks whose activations take about this much, so that they stay in the cache
/// between steps, while packed weights are still read once for many samples.
constexpr size_t kChunkBytes = size_t{2} << 20;

std::vector<int64_t> shape_of(const Value& value) {
  return value.spatial ? std::vector<int64_t>{value.c, value.h, value.w} : std::vector<int64_t>{value.c};
}

int64_t count_nonfinite(const float* x, int64_t n, const Executor& executor) {
  constexpr int64_t kBlock = 16384;
  if (n <= 4 * kBlock) return kernels::min_max(x, n).nonfinite;
  std::atomic<int64_t> nonfinite = 0;
  executor.parallel_for((n + kBlock - 1) / kBlock, [&](int64_t begin, int64_t end) {
    nonfinite += kernels::min_max(x + begin * kBlock, std::min(end * kBlock, n) - begin * kBlock).nonfinite;
  });
  return nonfinite;
}

/// The file's own bytes are dropped before anything is packed.
Program read_file(const std::string& path) {
  const Container container = Container::open(path);
  try {
    return read_program(container);
  } catch (const Error& error) {
    throw Error(path + ": " + error.what());
  }
}

/// A block that returns to its pool.
class Lease {
 public:
  explicit Lease(BlockPool& pool) : pool_(pool), block_(pool.take()) {}
  ~Lease() { pool_.give_back(std::move(block_)); }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  Block* operator->() const { return block_.get(); }

 private:
  BlockPool& pool_;
  std::unique_ptr<Block> block_;
};

}  // namespace

struct Engine::Impl {
  explicit Impl(Plan made)
      : plan(std::move(made)),
        input_shape(shape_of(plan.input)),
        output_shape(shape_of(plan.output)),
        blocks(std::max(std::thread::hardware_concurrency(), 1U)) {
    const size_t sample_bytes = std::max(plan.placement(1).bytes, size_t{1});
    max_chunk = std::max(static_cast<int64_t>(kChunkBytes / sample_bytes), int64_t{1});
  }

  /// Samples per pass: chunks of one batch are as equal as can be.
  int64_t chunk(int64_t batch) const {
    const int64_t chunks = (batch + max_chunk - 1) / max_chunk;
    return (batch + chunks - 1) / chunks;
  }

  void run(const float* input, int64_t batch, float* output, const Executor& executor) const {
    const int64_t chunk_samples = chunk(batch);
    const Placement placement = plan.placement(chunk_samples);
    const Lease block(blocks);
    uint8_t* memory = block->reserve(placement.bytes + plan.scratch_bytes(chunk_samples, executor.threads()));
    Run pass{.samples = 0, .executor = executor, .buffers = {}, .scratch = memory + placement.bytes};
    for (const size_t offset : placement.offsets) pass.buffers.push_back(memory + offset);
    for (int64_t begin = 0; begin < batch; begin += chunk_samples) {
      pass.samples = std::min(chunk_samples, batch - begin);
      // No step writes to the input.
      pass.buffers[kInputBuffer] =
          const_cast<uint8_t*>(reinterpret_cast<const uint8_t*>(input + begin * plan.input.size()));
      pass.buffers[kOutputBuffer] = reinterpret_cast<uint8_t*>(output + begin * plan.output.size());
      for (const Step& step : plan.steps) step.run(pass);
    }
  }

  Plan plan;
  std::vector<int64_t> input_shape, output_shape;
  int64_t max_chunk = 1;
  mutable BlockPool blocks;
};

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;

Engine Engine::open(const std::string& path) try {
  return Engine(std::make_unique<Impl>(make_plan(read_file(path))));
} catch (const std::bad_alloc&) {
  throw Error(path + " does not fit in memory");
}

Engine Engine::from_bytes(std::span<const uint8_t> bytes) try {
  return Engine(std::make_unique<Impl>(make_plan(read_program(Container::view(bytes)))));
} catch (const std::bad_alloc&) {
  throw Error("the network does not fit in memory");
}

const std::vector<int64_t>& Engine::input_shape() const { return impl_->input_shape; }
const std::vector<int64_t>& Engine::output_shape() const { return impl_->output_shape; }
int64_t Engine::input_size() const { return impl_->plan.input.size(); }
int64_t Engine::output_size() const { return impl_->plan.output.size(); }

void Engine::run(const float* input, int64_t batch, float* output, const Executor& executor) const try {
  if (batch < 0 || batch > std::numeric_limits<int32_t>::max()) {
    throw Error("batch must be 0 to 2147483647; got " + std::to_string(batch));
  }
  if (batch == 0) return;
  if (input == nullptr || output == nullptr) throw Error("input and output must not be null");
  const int64_t count = batch * input_size();
  if (const int64_t nonfinite = count_nonfinite(input, count, executor); nonfinite > 0) {
    throw Error("input: " + std::to_string(nonfinite) + " of " + std::to_string(count) +
                " values are not finite (NaN or infinity)");
  }
  impl_->run(input, batch, output, executor);
} catch (const std::bad_alloc&) {
  throw Error("a batch of " + std::to_string(batch) + " does not fit in memory");
}

std::string Engine::describe() const {
  const Plan& plan = impl_->plan;
  std::string text;
  double macs = 0;
  char line[256];
  for (const Step& step : plan.steps) {
    const size_t bytes = plan.buffer_bytes[static_cast<size_t>(step.writes[0])];
    std::snprintf(line, sizeof line, "%-32s %-20s %10zu bytes %14lld MACs  %s\n", step.name.c_str(),
                  step.op.c_str(), bytes, static_cast<long long>(step.macs), step.kernel.c_str());
    text += line;
    macs += static_cast<double>(step.macs);
  }
  std::snprintf(line, sizeof line, "%zu steps, %.2f M MACs a sample, chunks of at most %lld samples, ",
                plan.steps.size(), macs / 1e6, static_cast<long long>(impl_->max_chunk));
  return text + line + join(impl_->input_shape, "x") + " to " + join(impl_->output_shape, "x") + "\n";
}

size_t Engine::packed_bytes() const {
  size_t bytes = sizeof(Impl) + impl_->plan.steps.size() * sizeof(Step);
  for (const Step& step : impl_->plan.steps) bytes += step.bytes;
  return bytes;
}

size_t Engine::arena_bytes(int64_t batch) const {
  if (batch <= 0) return 0;
  const int64_t samples = impl_->chunk(batch);
  return impl_->plan.placement(samples).bytes + impl_->plan.scratch_bytes(samples, 1);
}

}  // namespace ptqx::engine
