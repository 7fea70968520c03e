// quantize, dequantize, add, mul, activation, lookup.

#include "kernels/pointwise.h"

#include <algorithm>
#include <array>
#include <memory>

#include "engine/plan.h"
#include "kernels/arith.h"
#include "kernels/quantize.h"
#include "kernels/reduce.h"

namespace ptqx::engine {
namespace {

kernels::PointwiseTail pointwise_tail(const ActivationSpec& activation, const Value& y) {
  return {.activation = activation.args, .output_zero_point = y.zero_point, .qmin = y.qmin, .qmax = y.qmax};
}

/// A step over all elements alike: body(run, begin, end).
template <class Body>
void add_flat_step(PlanBuilder& plan, const Node& node, std::vector<int> reads, int to, Body body) {
  plan.add({.name = node.name,
            .op = node.op,
            .reads = std::move(reads),
            .writes = {to},
            .work = [size = node.output.size(), bytes = node.output.is_float ? 8 : 2, body](
                        int64_t samples, int) { return element_work(samples * size, bytes, body); }});
}

/// What reads [c, 1, 1] against [c, h, w]: body(run, sample, first pixel, pixels).
template <class Body>
void add_channel_step(PlanBuilder& plan, const Node& node, std::vector<int> reads, int to, Body body) {
  plan.add({.name = node.name,
            .op = node.op,
            .reads = std::move(reads),
            .writes = {to},
            .work = [y = node.output, body](int64_t samples, int) {
              return row_work(samples, y.pixels(), y.c * (y.is_float ? 8 : 2),
                              [body](const Run& run, int64_t sample, int64_t begin, int64_t end) {
                                body(run, sample, begin, end - begin);
                              });
            }});
}

/// (a - a_zero_point) * (b - b_zero_point) of `count` elements to codes.
void mul_fixed_point(const FixedPoint& fixed, const Value& y, const uint8_t* a, int32_t a_zero_point,
                     const uint8_t* b, int32_t b_zero_point, int64_t count, uint8_t* codes) {
  for (int64_t i = 0; i < count; ++i) {
    const int64_t product = int64_t{a[i] - a_zero_point} * (b[i] - b_zero_point) * fixed.multiplier[0];
    codes[i] = static_cast<uint8_t>(
        kernels::requantize_fixed_point(product, fixed.shift[0], y.zero_point, fixed.low, fixed.high));
  }
}

/// Codes of [c, h, w] with those of [1, h, w]: product(x, y, count, codes) on pieces of pixels, of which `y`
/// has the pixel's one code again and again.
template <class Product>
void add_pixel_step(PlanBuilder& plan, const Node& node, int a, int b, int to, Product product) {
  add_channel_step(plan, node, {a, b}, to,
                   [=, y = node.output](const Run& run, int64_t sample, int64_t pixel, int64_t pixels) {
                     std::array<uint8_t, 256> same;
                     constexpr auto kMost = static_cast<int64_t>(same.size());
                     for (int64_t p = pixel; p < pixel + pixels; ++p) {
                       same.fill(run.at<const uint8_t>(b)[sample * y.pixels() + p]);
                       const int64_t offset = sample * y.size() + p * y.c;
                       for (int64_t begin = 0; begin < y.c; begin += kMost) {
                         product(run.at<const uint8_t>(a) + offset + begin, same.data(),
                                 std::min(y.c - begin, kMost), run.at<uint8_t>(to) + offset + begin);
                       }
                     }
                   });
}

}  // namespace

void add_steps(PlanBuilder& plan, const Node& node, const Input&) {
  const auto count_nonfinite = [](const Run& run, int64_t begin, int64_t end) {
    const float* x = run.at<const float>(kInputBuffer);
    run.nonfinite_inputs += kernels::min_max(x + begin, end - begin).nonfinite;
  };
  plan.add({.name = node.name,
            .op = "check_finite",
            .reads = {kInputBuffer},
            .writes = {},
            .work = [=, size = node.output.size()](int64_t samples, int) {
              return element_work(samples * size, sizeof(float), count_nonfinite);
            }});
}

void add_steps(PlanBuilder& plan, const Node& node, const Quantize&) {
  const Value& y = node.output;
  const bool planar = plan.input_is_planar(node);
  const int from = planar ? kInputBuffer : plan.input_buffer(node);
  const int to = plan.output_buffer(node);
  // The caller's input is checked by a step of its own.
  const bool check = from != kInputBuffer;
  const auto quantize_pixels = [=](const Run& run, int64_t sample, int64_t begin, int64_t end) {
    kernels::quantize_u8_nchw_to_nhwc(run.at<const float>(from) + sample * y.size() + begin, y.c, y.pixels(),
                                      end - begin, y.scale, y.zero_point, y.qmin, y.qmax,
                                      run.at<uint8_t>(to) + sample * y.size() + begin * y.c);
  };
  const auto quantize_sample = [=, name = node.name](const Run& run, int64_t sample, int64_t, int64_t) {
    const float* x = run.at<const float>(from) + sample * y.size();
    kernels::quantize_u8(x, {1, 1, y.size()}, &y.scale, &y.zero_point, y.qmin, y.qmax,
                         run.at<uint8_t>(to) + sample * y.size());
    if (check) require_finite(name, kernels::min_max(x, y.size()).nonfinite);
  };
  plan.add(
      {.name = node.name, .op = node.op, .reads = {from}, .writes = {to}, .work = [=](int64_t samples, int) {
         return planar ? row_work(samples, y.pixels(), y.c * 5, quantize_pixels)
                       : row_work(samples, 1, y.size() * 5, quantize_sample);
       }});
}

void add_steps(PlanBuilder& plan, const Node& node, const Dequantize&) {
  const int from = plan.input_buffer(node);
  const int to = plan.output_buffer(node);
  add_flat_step(plan, node, {from}, to,
                [=, x = plan.input(node)](const Run& run, int64_t begin, int64_t end) {
                  kernels::dequantize_u8(run.at<const uint8_t>(from) + begin, {1, 1, end - begin}, &x.scale,
                                         &x.zero_point, run.at<float>(to) + begin);
                });
}

void add_steps(PlanBuilder& plan, const Node& node, const Add& add) {
  const int a = plan.input_buffer(node, 0);
  const int b = plan.input_buffer(node, 1);
  const int to = plan.output_buffer(node);
  const Value& y = node.output;
  if (y.is_float) {
    add_flat_step(plan, node, {a, b}, to,
                  [=, args = add.activation.args](const Run& run, int64_t begin, int64_t end) {
                    for (int64_t i = begin; i < end; ++i) {
                      const float sum = run.at<const float>(a)[i] + run.at<const float>(b)[i];
                      run.at<float>(to)[i] = kernels::activate(sum, args, 0);
                    }
                  });
    return;
  }
  if (add.fixed_point) {
    const kernels::AddFixedPointArgs args = {.a_zero_point = plan.input(node, 0).zero_point,
                                             .a_multiplier = add.fixed_point->multiplier[0],
                                             .b_zero_point = plan.input(node, 1).zero_point,
                                             .b_multiplier = add.fixed_point->multiplier[1],
                                             .shift = add.fixed_point->shift[0],
                                             .output_zero_point = y.zero_point,
                                             .qmin = add.fixed_point->low,
                                             .qmax = add.fixed_point->high};
    add_flat_step(plan, node, {a, b}, to, [=](const Run& run, int64_t begin, int64_t end) {
      kernels::add_fixed_point_u8(run.at<const uint8_t>(a) + begin, run.at<const uint8_t>(b) + begin,
                                  end - begin, args, run.at<uint8_t>(to) + begin);
    });
    return;
  }
  const kernels::QParams qa = {plan.input(node, 0).scale / y.scale, plan.input(node, 0).zero_point};
  const kernels::QParams qb = {plan.input(node, 1).scale / y.scale, plan.input(node, 1).zero_point};
  add_flat_step(plan, node, {a, b}, to,
                [=, tail = pointwise_tail(add.activation, y)](const Run& run, int64_t begin, int64_t end) {
                  kernels::add_u8(run.at<const uint8_t>(a) + begin, qa.zero_point, qa.scale,
                                  run.at<const uint8_t>(b) + begin, qb.zero_point, qb.scale, end - begin,
                                  tail, run.at<uint8_t>(to) + begin);
                });
}

void add_steps(PlanBuilder& plan, const Node& node, const Mul& mul) {
  const Value& y = node.output;
  // Multiplication commutes bit by bit, so that the smaller operand can always be the second.
  const size_t first = plan.input(node, 0).same_shape(y) ? 0 : 1;
  const Value& second = plan.input(node, 1 - first);
  const bool per_pixel = !second.same_shape(y) && second.pixels() == y.pixels();
  const bool per_channel = !second.same_shape(y) && !per_pixel;
  const int a = plan.input_buffer(node, first);
  const int b = plan.input_buffer(node, 1 - first);
  const int to = plan.output_buffer(node);
  const int32_t a_zero_point = plan.input(node, first).zero_point;
  const int32_t b_zero_point = plan.input(node, 1 - first).zero_point;
  const float multiplier =
      kernels::requantize_multiplier(plan.input(node, 0).scale, plan.input(node, 1).scale, y.scale);
  const kernels::PointwiseTail tail = pointwise_tail(mul.activation, y);
  const int64_t c = y.c;
  const int64_t size = y.size();

  // Without broadcasting, b advances with the pixels.
  const int64_t b_size = per_channel ? c : size;
  const int64_t b_stride = per_channel ? 0 : c;

  if (per_pixel && !y.is_float) {
    add_pixel_step(plan, node, a, b, to,
                   [=, fixed = mul.fixed_point, y = node.output](const uint8_t* x, const uint8_t* by,
                                                                 int64_t count, uint8_t* codes) {
                     if (fixed) {
                       mul_fixed_point(*fixed, y, x, a_zero_point, by, b_zero_point, count, codes);
                     } else {
                       kernels::mul_u8(x, a_zero_point, by, b_zero_point, multiplier, count, tail, codes);
                     }
                   });
  } else if (mul.fixed_point) {
    add_channel_step(plan, node, {a, b}, to,
                     [=, fixed = *mul.fixed_point, y = node.output](const Run& run, int64_t sample,
                                                                    int64_t pixel, int64_t pixels) {
                       for (int64_t p = pixel; p < pixel + pixels; ++p) {
                         mul_fixed_point(fixed, y, run.at<const uint8_t>(a) + sample * size + p * c,
                                         a_zero_point,
                                         run.at<const uint8_t>(b) + sample * b_size + p * b_stride,
                                         b_zero_point, c, run.at<uint8_t>(to) + sample * size + p * c);
                       }
                     });
  } else if (!y.is_float && !per_channel) {
    add_flat_step(plan, node, {a, b}, to, [=](const Run& run, int64_t begin, int64_t end) {
      kernels::mul_u8(run.at<const uint8_t>(a) + begin, a_zero_point, run.at<const uint8_t>(b) + begin,
                      b_zero_point, multiplier, end - begin, tail, run.at<uint8_t>(to) + begin);
    });
  } else if (!y.is_float) {
    add_channel_step(plan, node, {a, b}, to,
                     [=](const Run& run, int64_t sample, int64_t pixel, int64_t pixels) {
                       const int64_t offset = sample * size + pixel * c;
                       kernels::mul_u8_channels(run.at<const uint8_t>(a) + offset, a_zero_point,
                                                run.at<const uint8_t>(b) + sample * c, b_zero_point,
                                                multiplier, pixels, c, tail, run.at<uint8_t>(to) + offset);
                     });
  } else {
    add_channel_step(
        plan, node, {a, b}, to,
        [=, all = y.pixels()](const Run& run, int64_t sample, int64_t pixel, int64_t pixels) {
          for (int64_t p = pixel; p < pixel + pixels; ++p) {
            const float* x = run.at<const float>(a) + sample * size + p * c;
            const float* factor =
                run.at<const float>(b) + (per_pixel ? sample * all + p : sample * b_size + p * b_stride);
            float* product = run.at<float>(to) + sample * size + p * c;
            for (int64_t i = 0; i < c; ++i)
              product[i] = kernels::activate(x[i] * factor[per_pixel ? 0 : i], tail.activation, i);
          }
        });
  }
}

void add_steps(PlanBuilder& plan, const Node& node, const Activate& activate) {
  const int from = plan.input_buffer(node);
  const int to = plan.output_buffer(node);
  const auto spec = std::make_shared<ActivationSpec>(activate.activation);
  spec->args.slopes = spec->slopes.data();
  add_channel_step(plan, node, {from}, to,
                   [=, c = node.output.c, size = node.output.size()](const Run& run, int64_t sample,
                                                                     int64_t pixel, int64_t pixels) {
                     const int64_t offset = sample * size + pixel * c;
                     for (int64_t i = 0; i < pixels * c; ++i) {
                       run.at<float>(to)[offset + i] =
                           kernels::activate(run.at<const float>(from)[offset + i], spec->args, i % c);
                     }
                   });
}

void add_steps(PlanBuilder& plan, const Node& node, const ApplyFunction& apply) {
  const int from = plan.input_buffer(node);
  const int to = plan.output_buffer(node);
  add_flat_step(plan, node, {from}, to, [=](const Run& run, int64_t begin, int64_t end) {
    kernels::real_function_f32(apply.function, apply.number, run.at<const float>(from) + begin, end - begin,
                               run.at<float>(to) + begin);
  });
}

void add_steps(PlanBuilder& plan, const Node& node, const Lookup& lookup) {
  const int from = plan.input_buffer(node);
  const int to = plan.output_buffer(node);
  add_flat_step(plan, node, {from}, to,
                [=, table = lookup.table](const Run& run, int64_t begin, int64_t end) {
                  kernels::lookup_u8(run.at<const uint8_t>(from) + begin, end - begin, table.data(),
                                     run.at<uint8_t>(to) + begin);
                });
}

}  // namespace ptqx::engine
