#pragma once

// Runs a converted network from a .ptqx file, without torch and without Python.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/executor.h"
#include "engine/tuning.h"

namespace ptqx::engine {

/// A file, a buffer or an argument that cannot be used. The message names what, where and the remedy.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A tensor that the network returns.
struct OutputInfo {
  /// Its place in what the network returns: keys and positions with dots between them ("aux", "features.0");
  /// "" if it returns one tensor.
  std::string path;
  std::vector<int64_t> shape;  // of one sample
  int64_t size;                // product of it
};

/// What a step does.
struct StepInfo {
  std::string name, op, kernel;
  bool suits_tiles;              // a matrix unit may take over from that kernel
  size_t bytes;                  // written a sample
  int64_t macs;                  // multiplications a sample, those with padding included
  int64_t useful_macs;           // without them
  std::vector<TunedStep> tuned;  // strategies chosen for it
};

/// What it costs.
struct StepProfile : StepInfo {
  double seconds;        // median of the rounds
  std::string strategy;  // that ran, of the last samples if there were several numbers of them
};

/// A network ready to run. Immutable: any number of threads may call run() on one engine at a time.
///
///     ptqx::engine::Engine engine = ptqx::engine::Engine::open("vgg11.ptqx");
///     std::vector<float> logits(batch * engine.output_size());
///     engine.run(images, batch, logits.data(), ptqx::engine::ThreadExecutor(2));
class Engine {
 public:
  /// Reads a .ptqx file (see container.h). Throws Error.
  static Engine open(const std::string& path);
  /// The same from memory; `bytes` may be freed afterwards.
  static Engine from_bytes(std::span<const uint8_t> bytes);

  ~Engine();
  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;

  /// Shapes of one sample, without the batch dimension: {3, 32, 32} and {100}, say.
  const std::vector<int64_t>& input_shape() const;
  int64_t input_size() const;  // product of input_shape()
  /// One by one, in their order in what the network returns.
  const std::vector<OutputInfo>& outputs() const;
  /// Of a network that returns one tensor; they throw Error if it returns several.
  const std::vector<int64_t>& output_shape() const;
  int64_t output_size() const;

  /// `input` [batch] + input_shape() float32, NCHW; each of `outputs` [batch] + its shape float32, NCHW.
  /// Any batch size, 0 included. Throws Error if an input value is not finite. Samples that are too few for
  /// all workers, a single one above all, are run by different numbers of them at first, and then by the
  /// fastest (worker_choice.h).
  void run(const float* input, int64_t batch, std::span<float* const> outputs,
           const Executor& executor) const;
  /// The same for a network that returns one tensor.
  void run(const float* input, int64_t batch, float* output, const Executor& executor) const {
    run(input, batch, std::span<float* const>(&output, 1), executor);
  }

  std::vector<StepInfo> steps() const;
  /// One line a step: name, operation, bytes written and multiplications a sample, kernel chosen.
  std::string describe() const;
  /// Runs `batch` samples step by step on the calling thread, `rounds` times. Arguments as of run().
  std::vector<StepProfile> profile(const float* input, int64_t batch, std::span<float* const> outputs,
                                   int rounds) const;

  /// The steps that have several strategies, for each number of samples and of workers that a run of `batch`
  /// samples by `threads` workers is shared out to.
  std::vector<TunableStep> tunable_steps(int64_t batch, int threads) const;
  /// Measures the strategies of those steps, about `seconds` long, and returns one for each: the usual one
  /// unless another was clearly faster. Throws Error if a step is not of this network and executor.
  std::vector<TunedStep> tune(const std::vector<TunableStep>& steps, const Executor& executor,
                              double seconds = 1.0) const;
  /// From now on runs with these strategies; what does not fit a step is of no account. Not to be called
  /// while other threads use the engine.
  void use(std::vector<TunedStep> tuned);

  size_t packed_bytes() const;  // packed weights, tables, plan
  /// Activations and scratch memory of one run by `threads` workers.
  size_t arena_bytes(int64_t batch, int threads = 1) const;

 private:
  struct Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ptqx::engine
