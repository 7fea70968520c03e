// min_max, moments, histogram: what observers ask of a tensor. One pass each.

#include "ops/statistics.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <limits>
#include <mutex>
#include <vector>

#include "ops/checks.h"
#include "ops/layout.h"
#include "ops/registration.h"

namespace ptqx::ops {
namespace {

// Sums are taken over chunks of this many elements and added in ascending order, whatever the threads.
constexpr int64_t kChunk = 65536;

int64_t chunks_of(int64_t count) { return (count + kChunk - 1) / kChunk; }

template <class Result, class Kernel>
std::vector<Result> map_chunks(const float* x, int64_t count, const Kernel& kernel) {
  std::vector<Result> results(static_cast<size_t>(chunks_of(count)));
  at::parallel_for(0, chunks_of(count), 1, [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      const int64_t first = chunk * kChunk;
      results[static_cast<size_t>(chunk)] = kernel(x + first, std::min(kChunk, count - first));
    }
  });
  return results;
}

// ---- shapes ----

using Three = std::tuple<Tensor, Tensor, Tensor>;

Three empty_scalars(const Tensor& input, at::ScalarType type) {
  check_real(input, "input");
  const auto scalar = [&](at::ScalarType dtype) { return at::empty({}, input.options().dtype(dtype)); };
  return {scalar(type), scalar(type), scalar(at::kLong)};
}

Three min_max_meta(const Tensor& input) { return empty_scalars(input, at::kFloat); }

Three moments_meta(const Tensor& input) { return empty_scalars(input, at::kDouble); }

std::tuple<Tensor, Tensor> histogram_meta(const Tensor& input, double low, double high, int64_t bins) {
  check_real(input, "input");
  TORCH_CHECK_VALUE(std::isfinite(static_cast<float>(low)) && std::isfinite(static_cast<float>(high)) &&
                        static_cast<float>(low) < static_cast<float>(high),
                    "low and high must be finite float32 numbers with low < high, got ", low, " and ", high);
  TORCH_CHECK_VALUE(1 <= bins && bins <= (1 << 24), "bins must lie in 1..2^24, got ", bins);
  const auto options = input.options().dtype(at::kLong);
  return {at::zeros({bins}, options), at::zeros({}, options)};
}

// ---- CPU ----

Three min_max_cpu(const Tensor& input) {
  Three result = min_max_meta(input);
  const Tensor x = dense_floats(input);
  const kernels::MinMax found = parallel_min_max(x.const_data_ptr<float>(), x.numel());
  *std::get<0>(result).mutable_data_ptr<float>() = found.min;
  *std::get<1>(result).mutable_data_ptr<float>() = found.max;
  *std::get<2>(result).mutable_data_ptr<int64_t>() = found.nonfinite;
  return result;
}

Three moments_cpu(const Tensor& input) {
  Three result = moments_meta(input);
  const Tensor x = dense_floats(input);
  kernels::Moments total{};
  for (const kernels::Moments& chunk :
       map_chunks<kernels::Moments>(x.const_data_ptr<float>(), x.numel(), kernels::moments)) {
    total.sum += chunk.sum;
    total.sum_of_squares += chunk.sum_of_squares;
    total.nonfinite += chunk.nonfinite;
  }
  *std::get<0>(result).mutable_data_ptr<double>() = total.sum;
  *std::get<1>(result).mutable_data_ptr<double>() = total.sum_of_squares;
  *std::get<2>(result).mutable_data_ptr<int64_t>() = total.nonfinite;
  return result;
}

std::tuple<Tensor, Tensor> histogram_cpu(const Tensor& input, double low, double high, int64_t bins) {
  auto [counts, outside] = histogram_meta(input, low, high, bins);
  const Tensor x = dense_floats(input);
  const float* values = x.const_data_ptr<float>();
  int64_t* total = counts.mutable_data_ptr<int64_t>();
  int64_t* beyond = outside.mutable_data_ptr<int64_t>();
  std::mutex merging;
  at::parallel_for(0, x.numel(), kChunk, [&](int64_t begin, int64_t end) {
    std::vector<int64_t> local(static_cast<size_t>(bins));
    const int64_t local_outside = kernels::histogram(values + begin, end - begin, static_cast<float>(low),
                                                     static_cast<float>(high), local.data(), bins);
    const std::lock_guard<std::mutex> lock(merging);
    for (int64_t bin = 0; bin < bins; ++bin) total[bin] += local[static_cast<size_t>(bin)];
    *beyond += local_outside;
  });
  return {counts, outside};
}

}  // namespace

kernels::MinMax parallel_min_max(const float* x, int64_t count) {
  kernels::MinMax total{.min = std::numeric_limits<float>::infinity(),
                        .max = -std::numeric_limits<float>::infinity(),
                        .nonfinite = 0};
  for (const kernels::MinMax& chunk : map_chunks<kernels::MinMax>(x, count, kernels::min_max)) {
    total.min = std::min(total.min, chunk.min);
    total.max = std::max(total.max, chunk.max);
    total.nonfinite += chunk.nonfinite;
  }
  return total;
}

void check_finite(const Tensor& input) {
  const int64_t nonfinite = parallel_min_max(input.const_data_ptr<float>(), input.numel()).nonfinite;
  TORCH_CHECK_VALUE(nonfinite == 0, "input must be finite, got ", nonfinite, " NaN or infinite values of ",
                    input.numel());
}

TORCH_LIBRARY_FRAGMENT(ptqx, m) {
  // min is inf and max -inf where nothing is finite; nonfinite counts NaN and infinities.
  m.def("min_max(Tensor input) -> (Tensor min, Tensor max, Tensor nonfinite)", kAnyStrides);
  // float64 sums over the finite elements
  m.def("moments(Tensor input) -> (Tensor sum, Tensor sum_of_squares, Tensor nonfinite)", kAnyStrides);
  // bins of equal width over [low, high]; outside counts the finite elements beyond
  m.def("histogram(Tensor input, float low, float high, int bins) -> (Tensor counts, Tensor outside)",
        kAnyStrides);
}
TORCH_LIBRARY_IMPL(ptqx, Meta, m) {
  m.impl("min_max", min_max_meta);
  m.impl("moments", moments_meta);
  m.impl("histogram", histogram_meta);
}
TORCH_LIBRARY_IMPL(ptqx, CPU, m) {
  m.impl("min_max", min_max_cpu);
  m.impl("moments", moments_cpu);
  m.impl("histogram", histogram_cpu);
}
TORCH_LIBRARY_IMPL(ptqx, Autograd, m) {
  m.impl("min_max", no_derivative());
  m.impl("moments", no_derivative());
  m.impl("histogram", no_derivative());
}

}  // namespace ptqx::ops
