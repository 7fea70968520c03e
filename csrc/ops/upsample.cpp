// upsample_bilinear2d, of codes and of real values.

#include "kernels/upsample.h"

#include <algorithm>
#include <array>
#include <vector>

#include "ops/checks.h"
#include "ops/layout.h"
#include "ops/registration.h"

namespace ptqx::ops {
namespace {

constexpr int64_t kGrain = 65536;  // elements of the output: about 30 microseconds

Tensor upsample_bilinear2d_meta(const Tensor& input, const std::optional<Tensor>& zero_point,
                                c10::SymIntArrayRef size, bool /*align_corners*/) {
  if (zero_point) {
    check_codes(input, "input");
    check_one_zero_point(*zero_point, "zero_point");
  } else {
    TORCH_CHECK_VALUE(input.is_floating_point(), "zero_point must be given for codes, got input of dtype ",
                      input.scalar_type(), " without it");
    check_real(input, "input");
  }
  check_dim(input, "input", 4);
  TORCH_CHECK_VALUE(size.size() == 2 && size[0] >= 1 && size[1] >= 1,
                    "size must be a height and a width of at least 1, got ", size);
  TORCH_CHECK_VALUE(input.sym_size(2) >= 1 && input.sym_size(3) >= 1,
                    "input must have at least one pixel, got shape ", input.sym_sizes());
  return empty_spatial({input.sym_size(0), input.sym_size(1), size[0], size[1]}, input,
                       zero_point ? input.scalar_type() : at::kFloat);
}

using Taps = std::vector<kernels::BilinearTap>;

Taps taps_of(int64_t in, int64_t out, bool align_corners) {
  Taps taps(static_cast<size_t>(out));
  kernels::bilinear_taps(in, out, align_corners, 0, out, taps.data());
  return taps;
}

/// kernel(x, args, scratch, y) on bands of rows of every image, in parallel.
template <class T, class Kernel>
void for_each_band(const Tensor& input, const Tensor& output, const kernels::BilinearArgs& args,
                   const Kernel& kernel) {
  if (output.numel() == 0) return;
  const T* x = input.const_data_ptr<T>();
  T* y = static_cast<T*>(output.mutable_data_ptr());
  const int64_t x_size = input.numel() / input.size(0);
  const int64_t oh = output.size(2);
  const int64_t row = args.ow * args.c;
  at::parallel_for(0, output.size(0) * oh, std::max<int64_t>(kGrain / row, 8),
                   [&](int64_t begin, int64_t end) {
                     std::vector<float> scratch(static_cast<size_t>(kernels::bilinear_scratch(args)));
                     while (begin < end) {
                       const int64_t image = begin / oh;
                       const int64_t last = std::min(end, (image + 1) * oh);
                       kernels::BilinearArgs band = args;
                       band.oh = last - begin;
                       band.rows += begin - image * oh;
                       kernel(x + image * x_size, band, scratch.data(), y + begin * row);
                       begin = last;
                     }
                   });
}

Tensor upsample_bilinear2d_cpu(const Tensor& input, const std::optional<Tensor>& zero_point,
                               at::IntArrayRef size, bool align_corners) {
  const std::vector<c10::SymInt> sizes(size.begin(), size.end());
  Tensor output = upsample_bilinear2d_meta(input, zero_point, sizes, align_corners);
  const Taps rows = taps_of(input.size(2), size[0], align_corners);
  const Taps columns = taps_of(input.size(3), size[1], align_corners);
  kernels::BilinearArgs args = {.c = input.size(1),
                                .w = input.size(3),
                                .oh = size[0],
                                .ow = size[1],
                                .rows = rows.data(),
                                .columns = columns.data()};
  if (!zero_point) {
    for_each_band<float>(dense_spatial(input.to(at::kFloat)), output, args, kernels::upsample_bilinear2d_f32);
    return output;
  }
  check_zero_point_values(*zero_point, "zero_point", input.scalar_type());
  args.zero_point = *zero_point->const_data_ptr<int32_t>() + zero_point_shift(input.scalar_type());
  for_each_band<uint8_t>(dense_codes(input), output, args, kernels::upsample_bilinear2d_u8);
  finish_codes(output);
  return output;
}

}  // namespace

// With the coordinates of torch.nn.functional.interpolate in float64 (kernels/upsample.h), float32 weights
// and
//   v = (q00 * wx0 + q01 * wx1) * wy0 + (q10 * wx0 + q11 * wx1) * wy1
// clamp(round(v) + zero_point) of codes minus zero_point, v itself of real values.
TORCH_LIBRARY_FRAGMENT(ptqx, m) {
  m.def(
      "upsample_bilinear2d(Tensor input, Tensor? zero_point, SymInt[2] size, bool align_corners=False) -> "
      "Tensor",
      kAnyStrides);
}
TORCH_LIBRARY_IMPL(ptqx, Meta, m) { m.impl("upsample_bilinear2d", upsample_bilinear2d_meta); }
TORCH_LIBRARY_IMPL(ptqx, CPU, m) { m.impl("upsample_bilinear2d", upsample_bilinear2d_cpu); }
TORCH_LIBRARY_IMPL(ptqx, Autograd, m) { m.impl("upsample_bilinear2d", no_derivative()); }

}  // namespace ptqx::ops
