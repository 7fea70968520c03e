#pragma once

// One convolution with random operands, run through the engine on every ISA and several thread counts
// and compared bit by bit with kernels::conv2d_ref.

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "engine/conv2d.h"
#include "kernels/conv2d_ref.h"
#include "kernels/dispatch.h"

namespace ptqx::engine {

struct Conv2dCase {
  std::string name;
  Conv2dShape shape;
  int64_t n = 1, h = 5, w = 5;
  int32_t input_zero_point = 0;
  bool zero_point_per_sample = false;
  bool weight_zero_points = false;
  bool sample_scale = false;
  int64_t group_size = 0;
  int weight_bits = 8;
  kernels::Output output = kernels::Output::kS32;
  kernels::Activation activation = kernels::Activation::kNone;
  bool bias = true;
  bool bias_f32 = false;
  bool residual = false;
  int32_t output_zero_point = 0;
  int32_t qmin = 0, qmax = 255;
  bool extreme_values = false;  // 255 x -128 everywhere
  int64_t misalignment = 0;     // bytes, or elements of the output
  std::vector<int> threads = {1};
};

inline void PrintTo(const Conv2dCase& c, std::ostream* out) { *out << c.name; }

/// Restores the ceiling that was found.
class IsaGuard {
 public:
  IsaGuard() : ceiling_(kernels::isa_ceiling()) {}
  ~IsaGuard() { kernels::set_isa_ceiling(ceiling_); }
  IsaGuard(const IsaGuard&) = delete;
  IsaGuard& operator=(const IsaGuard&) = delete;

 private:
  kernels::Isa ceiling_;
};

inline std::vector<kernels::Isa> supported_isas() {
  std::vector<kernels::Isa> isas;
  for (const kernels::Isa isa : kernels::kIsas) {
    if (kernels::isa_supported(isa)) isas.push_back(isa);
  }
  return isas;
}

/// Operands of a case. The input ends exactly where PackedConv2d::input_slack() says, so that the address
/// sanitizer sees any read beyond it.
class Conv2dOperands {
 public:
  explicit Conv2dOperands(const Conv2dCase& conv_case) : c(conv_case), random_(1234) {
    const Conv2dShape& s = c.shape;
    oh = s.output_h(c.h);
    ow = s.output_w(c.w);
    outputs = c.n * oh * ow * s.out_channels;
    fill(input_, c.n * c.h * c.w * s.in_channels, 0, 255, 255);
    const int limit = 1 << (c.weight_bits - 1);
    fill(weight, s.out_channels * s.in_channels / s.groups * s.kernel_h * s.kernel_w, -limit, limit - 1,
         -limit);
    fill(bias, s.out_channels, -3000, 3000, 3000);
    fill(weight_zero_points, s.out_channels, -128, 127, 127);
    fill(input_zero_points, c.n, 0, 255, 0);
    if (!c.zero_point_per_sample) std::ranges::fill(input_zero_points, c.input_zero_point);
    fill(residual, outputs, 0, 255, 255);
    const int64_t slices = c.group_size > 0 ? (s.in_channels + c.group_size - 1) / c.group_size : 1;
    // Chosen so that requantized values use the whole range of codes.
    const double spread =
        0.004 / std::sqrt(static_cast<double>(weight.size()) / static_cast<double>(s.out_channels));
    fill_real(multiplier, slices * s.out_channels, 0.1 * spread, spread);
    fill_real(bias_f32, s.out_channels, -40.0, 40.0);
    fill_real(slopes, s.out_channels, -0.5, 0.5);
    fill_real(sample_scale, c.n, 0.5, 2.0);
    for (int64_t oc = 0; oc < s.out_channels; ++oc) {  // the same in whole numbers, about
      int exponent = 0;
      const double mantissa = std::frexp(multiplier[static_cast<size_t>(oc)], &exponent);
      fixed_multiplier.push_back(static_cast<int32_t>(std::ldexp(mantissa, 31)));
      shift.push_back(31 - exponent);
    }
  }

  kernels::Tail tail() const {
    kernels::Tail t;
    t.output = c.output;
    t.bias = c.bias ? bias.data() : nullptr;
    t.multiplier = c.output == kernels::Output::kS32 ? nullptr : multiplier.data();
    t.bias_f32 = c.bias_f32 ? bias_f32.data() : nullptr;
    t.residual = c.residual ? residual.data() : nullptr;
    t.residual_multiplier = 0.37F;
    t.residual_zero_point = 101;
    t.activation = {.kind = c.activation,
                    .low = 0.0F,
                    .high = 90.5F,
                    .slope = 0.21F,
                    .offset = 3.5F,
                    .slopes = slopes.data()};
    t.output_zero_point = c.output_zero_point;
    t.qmin = c.qmin;
    t.qmax = c.qmax;
    if (c.output == kernels::Output::kU8FixedPoint) {
      t.multiplier = nullptr;
      t.residual_multiplier = 0.0F;
      t.fixed_multiplier = fixed_multiplier.data();
      t.shift = shift.data();
    }
    return t;
  }

  size_t element_bytes() const {
    const bool codes = c.output == kernels::Output::kU8 || c.output == kernels::Output::kU8FixedPoint;
    return codes ? 1 : 4;
  }
  size_t output_bytes() const { return static_cast<size_t>(outputs) * element_bytes(); }

  std::vector<uint8_t> reference() const {
    const Conv2dShape& s = c.shape;
    std::vector<uint8_t> output(output_bytes());
    kernels::conv2d_ref({.n = c.n,
                         .h = c.h,
                         .w = c.w,
                         .in_channels = s.in_channels,
                         .oh = oh,
                         .ow = ow,
                         .out_channels = s.out_channels,
                         .kernel_h = s.kernel_h,
                         .kernel_w = s.kernel_w,
                         .stride_h = s.stride_h,
                         .stride_w = s.stride_w,
                         .pad_top = s.pad_top,
                         .pad_left = s.pad_left,
                         .dilation_h = s.dilation_h,
                         .dilation_w = s.dilation_w,
                         .groups = s.groups},
                        input_.data(), input_zero_points.data(), weight.data(),
                        c.weight_zero_points ? weight_zero_points.data() : nullptr, c.group_size, tail(),
                        c.sample_scale ? sample_scale.data() : nullptr, output.data());
    return output;
  }

  PackedConv2d pack() const {
    return PackedConv2d(c.shape, weight.data(), c.weight_zero_points ? weight_zero_points.data() : nullptr,
                        c.group_size);
  }

  Conv2dCall call() const {
    return {.n = c.n,
            .h = c.h,
            .w = c.w,
            .input_zero_point = c.zero_point_per_sample ? 0 : c.input_zero_point,
            .zero_point_per_sample = c.zero_point_per_sample,
            .scale_per_sample = c.sample_scale,
            .tail = tail()};
  }

  /// Whether codes may take the place of the residual's.
  bool can_overwrite() const { return c.residual && c.output == kernels::Output::kU8; }

  std::vector<uint8_t> run(const PackedConv2d& packed, const Executor& executor, const std::string& strategy,
                           bool overwrite = false) const {
    const auto offset = static_cast<size_t>(c.misalignment);
    const size_t element = element_bytes();
    std::vector<uint8_t> input(offset + input_.size() + packed.input_slack(), 0xA5);
    std::copy(input_.begin(), input_.end(), input.begin() + static_cast<std::ptrdiff_t>(offset));
    std::vector<uint8_t> output(offset * element + output_bytes(), 0x5A);
    if (overwrite) std::copy(residual.begin(), residual.end(), output.end() - std::ssize(residual));
    const Conv2dPlan plan(packed, call(), executor.threads(), strategy);
    const Conv2dData data{.input = input.data() + offset,
                          .residual = overwrite ? output.data() + offset : tail().residual,
                          .input_zero_points = input_zero_points.data(),
                          .sample_scale = sample_scale.data(),
                          .output = output.data() + offset * element};
    executor.parallel_for(plan.items(), [&](int64_t begin, int64_t end) { plan.run(data, begin, end); });
    output.erase(output.begin(), output.begin() + static_cast<std::ptrdiff_t>(offset * element));
    return output;
  }

  Conv2dCase c;
  int64_t oh, ow, outputs;
  std::vector<int8_t> weight;
  std::vector<int32_t> bias, weight_zero_points, input_zero_points, fixed_multiplier, shift;
  std::vector<uint8_t> residual;
  std::vector<float> multiplier, bias_f32, slopes, sample_scale;

 private:
  template <class T>
  void fill(std::vector<T>& values, int64_t count, int low, int high, int extreme) {
    std::uniform_int_distribution<int> uniform(low, high);
    values.resize(static_cast<size_t>(count));
    for (T& value : values) value = static_cast<T>(c.extreme_values ? extreme : uniform(random_));
  }

  void fill_real(std::vector<float>& values, int64_t count, double low, double high) {
    std::uniform_real_distribution<double> uniform(low, high);
    values.resize(static_cast<size_t>(count));
    for (float& value : values) value = static_cast<float>(uniform(random_));
  }

  std::mt19937 random_;
  std::vector<uint8_t> input_;
};

template <class T>
void expect_equal_elements(const std::vector<uint8_t>& expected, const std::vector<uint8_t>& actual,
                           int64_t channels) {
  for (size_t i = 0; i < expected.size(); i += sizeof(T)) {
    if (std::memcmp(&expected[i], &actual[i], sizeof(T)) == 0) continue;
    T e, a;
    std::memcpy(&e, &expected[i], sizeof(T));
    std::memcpy(&a, &actual[i], sizeof(T));
    const auto index = static_cast<int64_t>(i / sizeof(T));
    FAIL() << "pixel " << index / channels << ", channel " << index % channels << ": expected " << +e
           << ", got " << +a;
  }
}

/// Every strategy, and the one that runs unasked.
inline std::vector<std::string> strategies_of(const PackedConv2d& packed, const Conv2dOperands& operands,
                                              int threads) {
  std::vector<std::string> strategies = conv2d_strategies(packed, operands.call(), threads);
  strategies.emplace_back();
  return strategies;
}

inline void expect_equal_outputs(const Conv2dCase& conv_case, const std::vector<uint8_t>& expected,
                                 const std::vector<uint8_t>& actual) {
  const int64_t channels = conv_case.shape.out_channels;
  switch (conv_case.output) {
    case kernels::Output::kU8:
    case kernels::Output::kU8FixedPoint:
      return expect_equal_elements<uint8_t>(expected, actual, channels);
    case kernels::Output::kS32:
      return expect_equal_elements<int32_t>(expected, actual, channels);
    case kernels::Output::kF32:
      return expect_equal_elements<float>(expected, actual, channels);
  }
}

inline void expect_every_row_exact(const Conv2dCase& conv_case) {
  const IsaGuard guard;
  const Conv2dOperands operands(conv_case);
  const std::vector<uint8_t> expected = operands.reference();
  for (const kernels::Isa isa : supported_isas()) {
    kernels::set_isa_ceiling(isa);
    const PackedConv2d packed = operands.pack();
    for (const int threads : conv_case.threads) {
      const ThreadExecutor executor(threads);
      for (const std::string& strategy : strategies_of(packed, operands, threads)) {
        SCOPED_TRACE(conv_case.name + ", " + packed.kernel_name() + ", threads " + std::to_string(threads) +
                     ", strategy " + strategy);
        expect_equal_outputs(conv_case, expected, operands.run(packed, executor, strategy));
        if (operands.can_overwrite()) {
          SCOPED_TRACE("in the residual's place");
          expect_equal_outputs(conv_case, expected, operands.run(packed, executor, strategy, true));
        }
        if (testing::Test::HasFailure()) return;
      }
    }
  }
}

}  // namespace ptqx::engine
