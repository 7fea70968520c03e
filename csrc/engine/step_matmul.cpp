// matmul.

#include <algorithm>
#include <memory>

#include "engine/plan.h"
#include "engine/row_product.h"

namespace ptqx::engine {
namespace {

/// As many as the kernels compute together, fewer where there would be too few blocks for all workers.
int64_t block_pixels(int64_t pixels, int threads) {
  constexpr int64_t kLeast = 16, kBlocksPerThread = 4;
  return std::clamp(pixels / (kBlocksPerThread * threads), kLeast, RowProduct::kChunkRows);
}

}  // namespace

void add_steps(PlanBuilder& plan, const Node& node, const Matmul& matmul) {
  const Value& x = plan.input(node, 0);
  const Value& y = node.output;
  const int a = plan.input_buffer(node, 0), b = plan.input_buffer(node, 1);
  const auto product =
      std::make_shared<const RowProduct>(RowProductShape{.depth = x.c, .columns = y.c},
                                         RowProductCodes{.a_zero_point = x.zero_point,
                                                         .b_zero_point = plan.input(node, 1).zero_point,
                                                         .multiplier = matmul.multiplier,
                                                         .to_real = y.is_float,
                                                         .zero_point = y.zero_point,
                                                         .qmin = y.qmin,
                                                         .qmax = y.qmax});
  const size_t packed_bytes = product->packed_bytes();
  const int packed = plan.new_buffer(static_cast<size_t>(y.h) * packed_bytes);
  plan.require_slack(RowProduct::kSlack);

  const int64_t panels = product->panels();
  const auto pack = [=, rows = y.h, row_codes = y.c * x.c](const Run& run, int64_t sample, int64_t begin,
                                                           int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = sample * rows + i / panels;
      product->pack(run.at<const uint8_t>(b) + row * row_codes, i % panels,
                    run.at<uint8_t>(packed) + static_cast<size_t>(row) * packed_bytes);
    }
  };
  plan.add({.name = node.name,
            .op = "pack",
            .reads = {b},
            .writes = {packed},
            .work = [=, blocks = y.h * panels, bytes = 2 * static_cast<int64_t>(packed_bytes) / panels](
                        int64_t samples, int) { return row_work(samples, blocks, bytes, pack); }});

  const int to = plan.output_buffer(node);
  const auto multiply = [=, depth = x.c, columns = y.c, w = y.w, real = y.is_float](
                            const Run& run, int64_t row, int64_t begin, int64_t end) {
    const int64_t first = row * w + begin;
    void* result = real ? static_cast<void*>(run.at<float>(to) + first * columns)
                        : static_cast<void*>(run.at<uint8_t>(to) + first * columns);
    product->run(run.at<const uint8_t>(a) + first * depth, end - begin,
                 run.at<const uint8_t>(packed) + static_cast<size_t>(row) * packed_bytes, result);
  };
  plan.add({.name = node.name,
            .op = node.op,
            .reads = {a, packed},
            .writes = {to},
            .work =
                [=, w = y.w, h = y.h](int64_t samples, int threads) {
                  const int64_t block = block_pixels(samples * h * w, threads);
                  // Rows of the image are the samples of row_work: a block lies in one of them.
                  return row_work(samples * h, w, kItemBytes / block, multiply);
                },
            .kernel = product->kernel_name(),
            .macs = y.size() * x.c,
            .useful_macs = y.size() * x.c});
}

}  // namespace ptqx::engine
