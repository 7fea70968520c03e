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

Tensor engine_run_meta(const Tensor& input, const Tensor& program, at::IntArrayRef output_shape) {
  check_dtype(input, "input", {at::kFloat});
  TORCH_CHECK_VALUE(input.dim() >= 1, "input must have a batch dimension, got a scalar");
  check_dtype(program, "program", {at::kByte});
  check_dim(program, "program", 1);
  check_ints(output_shape, "output_shape", output_shape.size(), 1);
  c10::SymDimVector sizes{input.sym_size(0)};
  for (const int64_t size : output_shape) sizes.emplace_back(size);
  return at::empty_symint(sizes, input.options());
}

// ---- CPU ----

Tensor engine_run_cpu(const Tensor& input, const Tensor& program, at::IntArrayRef output_shape) {
  TORCH_CHECK_VALUE(program.device().is_cpu() && input.device().is_cpu(),
                    "input and program must be on the CPU, got ", input.device(), " and ", program.device());
  const std::shared_ptr<const engine::Engine> engine = cached_engine(program.contiguous());
  TORCH_CHECK_VALUE(output_shape == at::IntArrayRef(engine->output_shape()),
                    "output_shape must be the program's, ", at::IntArrayRef(engine->output_shape()), ", got ",
                    output_shape);
  Tensor output = engine_run_meta(input, program, output_shape);
  TORCH_CHECK_VALUE(input.sizes().slice(1) == at::IntArrayRef(engine->input_shape()),
                    "input must have the program's shape ", at::IntArrayRef(engine->input_shape()),
                    " after the batch dimension, got ", input.sizes());
  const Tensor images = input.contiguous();
  try {
    engine->run(images.const_data_ptr<float>(), images.size(0), output.mutable_data_ptr<float>(),
                TorchExecutor());
  } catch (const engine::Error& error) {
    TORCH_CHECK_VALUE(false, error.what());
  }
  return output;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(ptqx, m) {
  // program: the bytes of a .ptqx file. input [N, ...] and output [N] + output_shape are float32.
  m.def("engine_run(Tensor input, Tensor program, int[] output_shape) -> Tensor", kAnyStrides);
}
TORCH_LIBRARY_IMPL(ptqx, Meta, m) { m.impl("engine_run", engine_run_meta); }
TORCH_LIBRARY_IMPL(ptqx, CPU, m) { m.impl("engine_run", engine_run_cpu); }
TORCH_LIBRARY_IMPL(ptqx, Autograd, m) { m.impl("engine_run", no_derivative()); }

}  // namespace ptqx::ops
