// group_norm: groups of channels over whole images, from real values to codes or real values.

#include "kernels/group_norm.h"

#include <algorithm>
#include <vector>

#include "ops/checks.h"
#include "ops/layout.h"
#include "ops/real_or_codes.h"
#include "ops/registration.h"
#include "ops/statistics.h"

namespace ptqx::ops {
namespace {

constexpr int64_t kGrain = 8192;  // elements: about 10 microseconds
constexpr int64_t kBlock = 32;    // channels whose sums are computed together

Tensor group_norm_meta(const Tensor& input, int64_t groups, const Tensor& weight, const Tensor& bias,
                       double eps, const std::optional<Tensor>& output_scale,
                       const std::optional<Tensor>& output_zero_point, int64_t qmin, int64_t qmax) {
  check_real(input, "input");
  check_dim(input, "input", 4);
  TORCH_CHECK_VALUE(groups >= 1 && input.sym_size(1) % groups == 0, "groups must divide the ",
                    input.sym_size(1), " channels, got ", groups);
  return norm_output(input, weight, bias, eps, {output_scale, output_zero_point, qmin, qmax});
}

/// Mean and inverse deviation of every channel of every sample, [N][C].
struct Statistics {
  std::vector<float> mean, inverse_deviation;
};

Statistics statistics_of(const float* x, int64_t samples, int64_t h, int64_t w,
                         const kernels::GroupNormArgs& args) {
  const int64_t c = args.channels, blocks = (c + kBlock - 1) / kBlock;
  const auto size = static_cast<size_t>(samples * c);
  std::vector<double> sums(size), squares(size);
  at::parallel_for(0, samples * blocks, std::max<int64_t>(kGrain / std::max<int64_t>(h * w * kBlock, 1), 1),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t i = begin; i < end; ++i) {
                       const int64_t sample = i / blocks, first = i % blocks * kBlock;
                       kernels::channel_sums(x + sample * h * w * c + first, h, w, c,
                                             std::min(kBlock, c - first), sums.data() + sample * c + first,
                                             squares.data() + sample * c + first);
                     }
                   });
  Statistics statistics{std::vector<float>(size), std::vector<float>(size)};
  for (int64_t first = 0; first < samples * c; first += c) {
    kernels::group_statistics(args, sums.data() + first, squares.data() + first,
                              statistics.mean.data() + first, statistics.inverse_deviation.data() + first);
  }
  return statistics;
}

Tensor group_norm_cpu(const Tensor& input, int64_t groups, const Tensor& weight, const Tensor& bias,
                      double eps, const std::optional<Tensor>& output_scale,
                      const std::optional<Tensor>& output_zero_point, int64_t qmin, int64_t qmax) {
  Tensor output =
      group_norm_meta(input, groups, weight, bias, eps, output_scale, output_zero_point, qmin, qmax);
  const std::optional<OutputCodes> codes =
      output_codes({output_scale, output_zero_point, qmin, qmax}, output.scalar_type());
  const Tensor dense = dense_spatial(input.to(at::kFloat));
  check_finite(dense);
  if (input.numel() == 0) return output;
  const Tensor weights = weight.contiguous(), biases = bias.contiguous();
  const int64_t samples = input.size(0), channels = input.size(1), pixels = input.size(2) * input.size(3);
  const auto* x = dense.const_data_ptr<float>();
  const Statistics statistics =
      statistics_of(x, samples, input.size(2), input.size(3), {pixels, channels, groups, eps});
  void* y = output.mutable_data_ptr();
  const auto normalize = [&](int64_t sample, int64_t begin, int64_t end) {
    const int64_t first = (sample * pixels + begin) * channels;
    const OutputCodes to = codes.value_or(OutputCodes{});
    const kernels::NormalizeChannelsArgs args = {
        .channels = channels,
        .mean = statistics.mean.data() + sample * channels,
        .inverse_deviation = statistics.inverse_deviation.data() + sample * channels,
        .weight = weights.const_data_ptr<float>(),
        .bias = biases.const_data_ptr<float>(),
        .scale = to.qparams.scale,
        .zero_point = to.qparams.zero_point,
        .qmin = to.qmin,
        .qmax = to.qmax};
    if (codes) {
      kernels::normalize_channels_u8(x + first, end - begin, args, static_cast<uint8_t*>(y) + first);
    } else {
      kernels::normalize_channels_f32(x + first, end - begin, args, static_cast<float*>(y) + first);
    }
  };
  at::parallel_for(0, samples * pixels, std::max<int64_t>(kGrain / channels, 1),
                   [&](int64_t begin, int64_t end) {
                     while (begin < end) {
                       const int64_t sample = begin / pixels;
                       const int64_t last = std::min(end, (sample + 1) * pixels);
                       normalize(sample, begin - sample * pixels, last - sample * pixels);
                       begin = last;
                     }
                   });
  if (codes) finish_codes(output);
  return output;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(ptqx, m) {
  // Over the pixels and channels of each group of each sample:
  //   t = ((input - mean) * inverse_deviation) * weight + bias
  // float32, or with output_scale its codes, clamp(round(t / output_scale) + output_zero_point, qmin, qmax)
  m.def(
      "group_norm(Tensor input, int groups, Tensor weight, Tensor bias, float eps, Tensor? "
      "output_scale=None, "
      "Tensor? output_zero_point=None, int qmin=0, int qmax=255) -> Tensor",
      kAnyStrides);
}
TORCH_LIBRARY_IMPL(ptqx, Meta, m) { m.impl("group_norm", group_norm_meta); }
TORCH_LIBRARY_IMPL(ptqx, CPU, m) { m.impl("group_norm", group_norm_cpu); }
TORCH_LIBRARY_IMPL(ptqx, Autograd, m) { m.impl("group_norm", no_derivative()); }

}  // namespace ptqx::ops
