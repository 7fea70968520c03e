// upsample_bilinear2d, of codes and of float32.

#include <algorithm>

#include "engine/conv2d_impl.h"
#include "engine/plan.h"
#include "kernels/upsample.h"

namespace ptqx::engine {
namespace {

/// Bands of rows of every sample. Where rows and columns lie is found for each band: as tables of the whole
/// image, which a few bytes of a file can make large, they would have to be kept.
struct Upsampling {
  Value x, y;
  bool align_corners;
  int from, to;

  /// Of the band, a table of its columns and one of its rows.
  size_t tables(int64_t rows) const { return static_cast<size_t>(y.w + rows) * sizeof(kernels::BilinearTap); }
  size_t scratch_bytes(int64_t rows) const {
    return tables(rows) + static_cast<size_t>(2 * y.w * y.c) * sizeof(float);
  }

  template <class T, class Kernel>
  void band(const Run& run, int64_t sample, int64_t begin, int64_t end, Kernel* kernel) const {
    const BlockLease lease(conv2d_scratch());
    uint8_t* scratch = (*lease).reserve(scratch_bytes(end - begin));
    auto* columns = reinterpret_cast<kernels::BilinearTap*>(scratch);
    kernels::BilinearTap* rows = columns + y.w;
    kernels::bilinear_taps(x.w, y.w, align_corners, 0, y.w, columns);
    kernels::bilinear_taps(x.h, y.h, align_corners, begin, end, rows);
    const kernels::BilinearArgs args = {.c = x.c,
                                        .w = x.w,
                                        .oh = end - begin,
                                        .ow = y.w,
                                        .rows = rows,
                                        .columns = columns,
                                        .zero_point = x.zero_point};
    kernel(run.at<const T>(from) + sample * x.size(), args,
           reinterpret_cast<float*>(scratch + tables(end - begin)),
           run.at<T>(to) + sample * y.size() + begin * y.w * y.c);
  }
};

/// Fewer rows would interpolate those of the input between them anew too often.
constexpr int64_t kLeastRows = 8;

}  // namespace

void add_steps(PlanBuilder& plan, const Node& node, const UpsampleBilinear2d& upsample) {
  const Value& y = node.output;
  const Upsampling upsampling = {.x = plan.input(node),
                                 .y = y,
                                 .align_corners = upsample.align_corners,
                                 .from = plan.input_buffer(node),
                                 .to = plan.output_buffer(node)};
  const auto band = [upsampling](const Run& run, int64_t sample, int64_t begin, int64_t end) {
    if (upsampling.y.is_float) {
      upsampling.band<float>(run, sample, begin, end, kernels::upsample_bilinear2d_f32);
    } else {
      upsampling.band<uint8_t>(run, sample, begin, end, kernels::upsample_bilinear2d_u8);
    }
  };
  const int64_t row_bytes = std::min(y.w * y.c * (y.is_float ? 4 : 1), kItemBytes / kLeastRows);
  plan.add({.name = node.name,
            .op = node.op,
            .reads = {upsampling.from},
            .writes = {upsampling.to},
            .work = [=](int64_t samples, int) {
              Work work = row_work(samples, upsampling.y.h, row_bytes, band);
              work.scratch_bytes = upsampling.scratch_bytes(std::min(kItemBytes / row_bytes, upsampling.y.h));
              return work;
            }});
}

}  // namespace ptqx::engine
