// engine_run: a whole network in one call.

#include "engine/engine.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "ops/checks.h"
#include "ops/engine_cache.h"
#include "ops/executor.h"
#include "ops/registration.h"

namespace ptqx::ops {
namespace {

// ---- shape ----

void check_input_and_program(const Tensor& input, const Tensor& program) {
  check_dtype(input, "input", {at::kFloat});
  TORCH_CHECK_VALUE(input.dim() >= 1, "input must have a batch dimension, got a scalar");
  check_dtype(program, "program", {at::kByte});
  check_dim(program, "program", 1);
}

Tensor empty_output(const Tensor& input, at::IntArrayRef shape) {
  c10::SymDimVector sizes{input.sym_size(0)};
  for (const int64_t size : shape) sizes.emplace_back(size);
  return at::empty_symint(sizes, input.options());
}

Tensor engine_run_meta(const Tensor& input, const Tensor& program, at::IntArrayRef output_shape) {
  check_input_and_program(input, program);
  check_ints(output_shape, "output_shape", output_shape.size(), 1);
  return empty_output(input, output_shape);
}

/// Shapes that stand one after another in `extents`, `ranks` of them.
std::vector<at::IntArrayRef> split_shapes(at::IntArrayRef ranks, at::IntArrayRef extents) {
  check_ints(ranks, "output_ranks", ranks.size(), 0);
  check_ints(extents, "output_extents", extents.size(), 1);
  std::vector<at::IntArrayRef> shapes;
  size_t begin = 0;
  for (const int64_t rank : ranks) {
    const bool fits = rank <= static_cast<int64_t>(extents.size() - begin);
    TORCH_CHECK_VALUE(fits, "output_extents must have as many extents as output_ranks ask for, got ",
                      extents);
    shapes.push_back(extents.slice(begin, static_cast<size_t>(rank)));
    begin += static_cast<size_t>(rank);
  }
  TORCH_CHECK_VALUE(begin == extents.size(),
                    "output_extents must have as many extents as output_ranks ask for, got ", extents);
  return shapes;
}

std::vector<Tensor> engine_run_outputs_meta(const Tensor& input, const Tensor& program, at::IntArrayRef ranks,
                                            at::IntArrayRef extents) {
  check_input_and_program(input, program);
  std::vector<Tensor> outputs;
  for (const at::IntArrayRef shape : split_shapes(ranks, extents))
    outputs.push_back(empty_output(input, shape));
  return outputs;
}

// ---- CPU ----

/// The engine of a program, which is what the arguments say it is.
std::shared_ptr<const engine::Engine> engine_of(const Tensor& input, const Tensor& program) {
  TORCH_CHECK_VALUE(program.device().is_cpu() && input.device().is_cpu(),
                    "input and program must be on the CPU, got ", input.device(), " and ", program.device());
  std::shared_ptr<const engine::Engine> engine = cached_engine(program.contiguous());
  TORCH_CHECK_VALUE(input.sizes().slice(1) == at::IntArrayRef(engine->input_shape()),
                    "input must have the program's shape ", at::IntArrayRef(engine->input_shape()),
                    " after the batch dimension, got ", input.sizes());
  return engine;
}

void run(const engine::Engine& engine, const Tensor& input, at::TensorList outputs) {
  const Tensor images = input.contiguous();
  std::vector<float*> places;
  for (const Tensor& output : outputs) places.push_back(output.mutable_data_ptr<float>());
  try {
    engine.run(images.const_data_ptr<float>(), images.size(0), places, TorchExecutor());
  } catch (const engine::Error& error) {
    TORCH_CHECK_VALUE(false, error.what());
  }
}

Tensor engine_run_cpu(const Tensor& input, const Tensor& program, at::IntArrayRef output_shape) {
  Tensor output = engine_run_meta(input, program, output_shape);
  const std::shared_ptr<const engine::Engine> engine = engine_of(input, program);
  TORCH_CHECK_VALUE(engine->outputs().size() == 1, "the program gives ", engine->outputs().size(),
                    " tensors; ptqx::engine_run_outputs runs it");
  TORCH_CHECK_VALUE(output_shape == at::IntArrayRef(engine->output_shape()),
                    "output_shape must be the program's, ", at::IntArrayRef(engine->output_shape()), ", got ",
                    output_shape);
  run(*engine, input, output);
  return output;
}

std::vector<Tensor> engine_run_outputs_cpu(const Tensor& input, const Tensor& program, at::IntArrayRef ranks,
                                           at::IntArrayRef extents) {
  std::vector<Tensor> outputs = engine_run_outputs_meta(input, program, ranks, extents);
  const std::shared_ptr<const engine::Engine> engine = engine_of(input, program);
  TORCH_CHECK_VALUE(outputs.size() == engine->outputs().size(), "output_ranks must be of the program's ",
                    engine->outputs().size(), " outputs, got ", ranks);
  for (size_t i = 0; i < outputs.size(); ++i) {
    const engine::OutputInfo& output = engine->outputs()[i];
    TORCH_CHECK_VALUE(outputs[i].sizes().slice(1) == at::IntArrayRef(output.shape), "output ", i,
                      " must have the program's shape ", at::IntArrayRef(output.shape), ", got ",
                      outputs[i].sizes().slice(1));
  }
  run(*engine, input, outputs);
  return outputs;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(ptqx, m) {
  // program: the bytes of a .ptqx file. input [N, ...] and output [N] + output_shape are float32.
  m.def("engine_run(Tensor input, Tensor program, int[] output_shape) -> Tensor", kAnyStrides);
  // Of a network that returns several tensors: the extents of all shapes, and how many of them each has.
  m.def(
      "engine_run_outputs(Tensor input, Tensor program, int[] output_ranks, int[] output_extents) -> "
      "Tensor[]",
      kAnyStrides);
}
TORCH_LIBRARY_IMPL(ptqx, Meta, m) {
  m.impl("engine_run", engine_run_meta);
  m.impl("engine_run_outputs", engine_run_outputs_meta);
}
TORCH_LIBRARY_IMPL(ptqx, CPU, m) {
  m.impl("engine_run", engine_run_cpu);
  m.impl("engine_run_outputs", engine_run_outputs_cpu);
}
TORCH_LIBRARY_IMPL(ptqx, Autograd, m) {
  m.impl("engine_run", no_derivative());
  m.impl("engine_run_outputs", no_derivative());
}

}  // namespace ptqx::ops
