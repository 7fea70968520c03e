#include "ops/runtime.h"

#include <random>
#include <stdexcept>

#include "engine/engine.h"
#include "kernels/ceiling.h"
#include "kernels/conv_tail.h"
#include "kernels/depthwise.h"
#include "kernels/dispatch.h"
#include "kernels/dot.h"
#include "kernels/fake_quantize.h"
#include "kernels/fixed_point.h"
#include "kernels/gemm.h"
#include "kernels/group_norm.h"
#include "kernels/layer_norm.h"
#include "kernels/pack.h"
#include "kernels/pointwise.h"
#include "kernels/pool.h"
#include "kernels/quantize.h"
#include "kernels/real_function.h"
#include "kernels/reduce.h"
#include "kernels/softmax.h"
#include "kernels/tile_gemm.h"
#include "kernels/upsample.h"
#include "kernels/winograd.h"
#include "ops/engine_cache.h"
#include "ops/executor.h"
#include "ops/pages.h"

namespace ptqx::ops {
namespace {

using kernels::kIsas;

template <class Fn>
void add_rows(std::vector<KernelRow>& all, const char* family, std::span<const kernels::Row<Fn>> rows) {
  const kernels::Row<Fn>& best = kernels::best_row(rows);
  for (const kernels::Row<Fn>& row : rows) {
    all.push_back({family, row.name, kernels::isa_name(row.isa), &row == &best});
  }
}

/// What `use` makes of the program's engine. Whatever goes wrong is std::invalid_argument.
template <class Use>
auto with_engine(const at::Tensor& program, const Use& use) {
  if (program.scalar_type() != at::kByte || program.dim() != 1 || !program.device().is_cpu()) {
    throw std::invalid_argument("program must be a uint8 tensor of one dimension on the CPU");
  }
  try {
    return use(*cached_engine(program.contiguous()));
  } catch (const engine::Error& error) {
    throw std::invalid_argument(error.what());
  } catch (const c10::Error& error) {
    throw std::invalid_argument(error.what_without_backtrace());
  }
}

void require_at_least(const char* name, int64_t least, int64_t value) {
  if (value >= least) return;
  throw std::invalid_argument(std::string(name) + ": expected at least " + std::to_string(least) + ", got " +
                              std::to_string(value));
}

}  // namespace

std::string isa_ceiling() { return kernels::isa_name(kernels::isa_ceiling()); }

void set_isa_ceiling(const std::string& name) {
  std::string known;
  for (const kernels::Isa isa : kIsas) {
    if (name == kernels::isa_name(isa)) return kernels::set_isa_ceiling(isa);
    known += std::string(known.empty() ? "" : ", ") + kernels::isa_name(isa);
  }
  throw std::invalid_argument("unknown instruction set '" + name + "'; known: " + known);
}

std::vector<std::string> isas_known() {
  std::vector<std::string> names;
  for (const kernels::Isa isa : kIsas) names.emplace_back(kernels::isa_name(isa));
  return names;
}

std::vector<std::string> isas_supported() {
  std::vector<std::string> names;
  for (const kernels::Isa isa : kIsas) {
    if (kernels::isa_supported(isa)) names.emplace_back(kernels::isa_name(isa));
  }
  return names;
}

std::vector<KernelRow> kernel_rows() {
  std::vector<KernelRow> all;
  add_rows(all, "gemm_u8s8", kernels::gemm_u8s8_rows());
  add_rows(all, "gemm_u8s8_groups", kernels::gemm_u8s8_groups_rows());
  add_rows(all, "gemm_u8s4", kernels::gemm_u8s4_rows());
  add_rows(all, "gemm_binary", kernels::gemm_binary_rows());
  add_rows(all, "gemm_s16s16", kernels::gemm_s16s16_rows());
  // Without a matrix unit nothing is computed this way.
  if (kernels::isa_supported(kernels::Isa::kAmxInt8)) {
    add_rows(all, "tile_gemm_u8s8", kernels::tile_gemm_u8s8_rows());
  }
  add_rows(all, "winograd_input", kernels::winograd_input_rows());
  add_rows(all, "winograd_weight", kernels::winograd_weight_rows());
  add_rows(all, "winograd_output", kernels::winograd_output_rows());
  add_rows(all, "depthwise_u8s8", kernels::depthwise_u8s8_rows());
  add_rows(all, "conv_tail", kernels::conv_tail_rows());
  add_rows(all, "quantize_u8", kernels::quantize_u8_rows());
  add_rows(all, "quantize_u8_nchw_to_nhwc", kernels::quantize_u8_nchw_to_nhwc_rows());
  add_rows(all, "quantize_s8", kernels::quantize_s8_rows());
  add_rows(all, "dequantize_u8", kernels::dequantize_u8_rows());
  add_rows(all, "dequantize_s8", kernels::dequantize_s8_rows());
  add_rows(all, "dequantize_s32", kernels::dequantize_s32_rows());
  add_rows(all, "fake_quantize", kernels::fake_quantize_rows());
  add_rows(all, "fake_quantize_backward", kernels::fake_quantize_backward_rows());
  add_rows(all, "min_max", kernels::min_max_rows());
  add_rows(all, "moments", kernels::moments_rows());
  add_rows(all, "histogram", kernels::histogram_rows());
  add_rows(all, "normalize_u8", kernels::normalize_u8_rows());
  add_rows(all, "channel_sums", kernels::channel_sums_rows());
  add_rows(all, "normalize_channels_u8", kernels::normalize_channels_u8_rows());
  add_rows(all, "real_function", kernels::real_function_rows());
  add_rows(all, "exp_sum", kernels::exp_sum_rows());
  add_rows(all, "softmax_row", kernels::softmax_row_rows());
  add_rows(all, "max_pool2d_u8", kernels::max_pool2d_u8_rows());
  add_rows(all, "avg_pool2d_u8", kernels::avg_pool2d_u8_rows());
  add_rows(all, "adaptive_avg_pool2d_u8", kernels::adaptive_avg_pool2d_u8_rows());
  add_rows(all, "upsample_bilinear2d_u8", kernels::upsample_bilinear2d_u8_rows());
  add_rows(all, "upsample_bilinear2d_f32", kernels::upsample_bilinear2d_f32_rows());
  add_rows(all, "add_u8", kernels::add_u8_rows());
  add_rows(all, "add_fixed_point_u8", kernels::add_fixed_point_u8_rows());
  add_rows(all, "mul_u8", kernels::mul_u8_rows());
  add_rows(all, "fixed_point", kernels::fixed_point_rows());
  add_rows(all, "dot_s16", kernels::dot_s16_rows());
  add_rows(all, "lookup_u8", kernels::lookup_u8_rows());
  add_rows(all, "flip_sign_u8", kernels::flip_sign_u8_rows());
  add_rows(all, "pack_int4", kernels::pack_int4_rows());
  add_rows(all, "unpack_int4", kernels::unpack_int4_rows());
  add_rows(all, "pack_int2", kernels::pack_int2_rows());
  add_rows(all, "unpack_int2", kernels::unpack_int2_rows());
  add_rows(all, "pack_int1", kernels::pack_int1_rows());
  add_rows(all, "unpack_int1", kernels::unpack_int1_rows());
  add_rows(all, "u8s8_ceiling", kernels::u8s8_ceiling_rows());
  add_rows(all, "f32_ceiling", kernels::f32_ceiling_rows());
  add_rows(all, "stream_read", kernels::stream_read_rows());
  return all;
}

std::string engine_describe(const at::Tensor& program) {
  return with_engine(program, [](const engine::Engine& engine) { return engine.describe(); });
}

std::vector<engine::StepInfo> engine_steps(const at::Tensor& program) {
  return with_engine(program, [](const engine::Engine& engine) { return engine.steps(); });
}

EngineMemory engine_memory(const at::Tensor& program, int64_t batch, int threads) {
  require_at_least("batch", 0, batch);
  require_at_least("threads", 1, threads);
  return with_engine(program, [&](const engine::Engine& engine) {
    const at::Tensor bytes = program.contiguous();
    return EngineMemory{resident_bytes({bytes.const_data_ptr<uint8_t>(), static_cast<size_t>(bytes.numel())}),
                        engine.packed_bytes(), engine.arena_bytes(batch, threads)};
  });
}

std::vector<engine::StepProfile> engine_profile(const at::Tensor& program, int64_t batch, int rounds) {
  require_at_least("batch", 1, batch);
  require_at_least("rounds", 1, rounds);
  return with_engine(program, [&](const engine::Engine& engine) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> input(static_cast<size_t>(batch * engine.input_size()));
    for (float& value : input) value = normal(random);
    std::vector<std::vector<float>> outputs;
    std::vector<float*> places;
    for (const engine::OutputInfo& output : engine.outputs()) {
      outputs.emplace_back(static_cast<size_t>(batch * output.size));
      places.push_back(outputs.back().data());
    }
    return engine.profile(input.data(), batch, places, rounds);
  });
}

std::vector<engine::TunableStep> engine_tunable_steps(const at::Tensor& program, int64_t batch, int threads) {
  return with_engine(program,
                     [&](const engine::Engine& engine) { return engine.tunable_steps(batch, threads); });
}

std::vector<engine::TunedStep> engine_tune(const at::Tensor& program,
                                           const std::vector<engine::TunableStep>& steps, double seconds) {
  return with_engine(
      program, [&](const engine::Engine& engine) { return engine.tune(steps, TorchExecutor(), seconds); });
}

std::string tuning_machine() { return engine::tuning_machine(); }

engine::MachineRates measure_machine(int threads, double seconds, int64_t buffer_bytes) {
  return engine::measure_machine(threads, seconds, buffer_bytes);
}

}  // namespace ptqx::ops
