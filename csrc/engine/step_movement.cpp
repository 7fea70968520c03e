// constant, and nodes that move elements of 1 or 4 bytes: cat, flatten, reshape, permute, slice,
// channel_shuffle, pad, pixel_shuffle, pixel_unshuffle, upsample_nearest2d, upsample_zeros2d. Most are a copy
// of runs of channels, pixel by pixel.

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "engine/plan.h"

namespace ptqx::engine {
namespace {

int64_t element_bytes(const Value& value) { return value.is_float ? 4 : 1; }

/// A step over the output's rows: body(run, sample, row).
template <class Body>
Step row_step(const Node& node, std::vector<int> reads, int to, Body body) {
  const Value& y = node.output;
  return {.name = node.name,
          .op = node.op,
          .reads = std::move(reads),
          .writes = {to},
          .work = [h = y.h, row_bytes = y.w * y.c * element_bytes(y), body](int64_t samples, int) {
            return row_work(samples, h, row_bytes,
                            [body](const Run& run, int64_t sample, int64_t begin, int64_t end) {
                              for (int64_t row = begin; row < end; ++row) body(run, sample, row);
                            });
          }};
}

/// Copies `bytes` from each pixel of a row to each pixel of another.
void copy_pixels(const uint8_t* from, int64_t from_stride, uint8_t* to, int64_t to_stride, int64_t pixels,
                 int64_t bytes) {
  for (int64_t pixel = 0; pixel < pixels; ++pixel) {
    std::memcpy(to + pixel * to_stride, from + pixel * from_stride, static_cast<size_t>(bytes));
  }
}

/// [groups][channels / groups] to [channels / groups][groups].
template <class T>
void shuffle_channels(const T* from, int64_t groups, int64_t group, T* to) {
  for (int64_t i = 0; i < groups; ++i) {
    for (int64_t j = 0; j < group; ++j) to[j * groups + i] = from[i * group + j];
  }
}

/// Between [pixels][channels] and [channels][pixels], pixels `begin` to `end` of a sample.
struct Transposition {
  int from, to;
  int64_t pixels, channels;
  bool to_planes;

  template <class T>
  void move(const Run& run, int64_t sample, int64_t begin, int64_t end) const {
    const T* in = run.at<const T>(from) + sample * pixels * channels;
    T* out = run.at<T>(to) + sample * pixels * channels;
    if (pixels == 1 || channels == 1) {
      std::memcpy(out + begin * channels, in + begin * channels,
                  static_cast<size_t>((end - begin) * channels) * sizeof(T));
      return;
    }
    for (int64_t channel = 0; channel < channels; ++channel) {
      const int64_t plane = channel * pixels;
      if (to_planes) {
        for (int64_t i = begin; i < end; ++i) out[plane + i] = in[i * channels + channel];
      } else {
        for (int64_t i = begin; i < end; ++i) out[i * channels + channel] = in[plane + i];
      }
    }
  }
};

}  // namespace

Step transpose_step(const std::string& name, const Value& value, int from, int to, bool to_planar) {
  const Transposition transposition = {from, to, value.pixels(), value.c, to_planar};
  const auto block = [transposition, is_float = value.is_float](const Run& run, int64_t sample, int64_t begin,
                                                                int64_t end) {
    if (is_float) {
      transposition.move<float>(run, sample, begin, end);
    } else {
      transposition.move<uint8_t>(run, sample, begin, end);
    }
  };
  // So that a block has at least a cache line of every plane.
  const int64_t most = kItemBytes / (64 / element_bytes(value));
  const int64_t pixel_bytes = std::min(value.c * element_bytes(value), most);
  return {.name = name,
          .op = "transpose",
          .reads = {from},
          .writes = {to},
          .work = [=, pixels = value.pixels()](int64_t samples, int) {
            return row_work(samples, pixels, pixel_bytes, block);
          }};
}

void add_steps(PlanBuilder& plan, const Node& node, const Flatten&) {
  if (plan.plan_as_view(node)) return;
  const int from = plan.input_buffer(node);
  plan.add(transpose_step(node.name, plan.input(node), from, plan.output_buffer(node), true));
}

void add_steps(PlanBuilder& plan, const Node& node, const Reshape&) {
  const Value& x = plan.input(node);
  const Value& y = node.output;
  if (x.c == y.c || (x.order_free() && y.order_free())) return plan.share_input(node);
  // A reshape keeps NCHW order, which is not that in memory.
  const bool given_planar = node.inputs[0] == 0 || x.order_free();
  int planar = given_planar ? plan.planar_input_buffer(node) : plan.input_buffer(node);
  if (!given_planar) {
    const int interleaved = planar;
    planar = y.order_free() ? plan.output_buffer(node) : plan.new_buffer(x.bytes());
    plan.add(transpose_step(node.name, x, interleaved, planar, true));
    if (y.order_free()) return;
  }
  plan.add(transpose_step(node.name, y, planar, plan.output_buffer(node), false));
}

namespace {

/// Whether only extents of 1 change their place in memory.
bool keeps_memory_order(const Value& x, const Permute& permute) {
  const std::array<int64_t, 3> extents = {x.c, x.h, x.w};
  std::vector<size_t> before, after;
  for (const size_t axis : {size_t{1}, size_t{2}, size_t{0}}) {  // memory is [h][w][c]
    if (extents[axis] > 1) before.push_back(axis);
    if (extents[permute.axes[axis]] > 1) after.push_back(permute.axes[axis]);
  }
  return before == after;
}

}  // namespace

void add_steps(PlanBuilder& plan, const Node& node, const Permute& permute) {
  const Value& x = plan.input(node);
  const Value& y = node.output;
  if (keeps_memory_order(x, permute)) return plan.share_input(node);
  const int from = plan.input_buffer(node);
  const int to = plan.output_buffer(node);
  const std::array<int64_t, 3> strides = {1, x.w * x.c, x.c};  // of c, h and w in memory
  const int64_t c_stride = strides[permute.axes[0]];
  const int64_t h_stride = strides[permute.axes[1]];
  const int64_t w_stride = strides[permute.axes[2]];
  const auto copy_row = [=](const auto* in, auto* out, int64_t row) {
    for (int64_t w = 0; w < y.w; ++w) {
      for (int64_t c = 0; c < y.c; ++c) *out++ = in[row * h_stride + w * w_stride + c * c_stride];
    }
  };
  plan.add(row_step(node, {from}, to, [=, size = x.size()](const Run& run, int64_t sample, int64_t row) {
    const int64_t begin = sample * size + row * y.w * y.c;
    if (y.is_float) {
      copy_row(run.at<const float>(from) + sample * size, run.at<float>(to) + begin, row);
    } else {
      copy_row(run.at<const uint8_t>(from) + sample * size, run.at<uint8_t>(to) + begin, row);
    }
  }));
}

void add_steps(PlanBuilder& plan, const Node& node, Constant& constant) {
  const int to = plan.output_buffer(node);
  const auto values = std::make_shared<const std::vector<float>>(std::move(constant.values));
  Step step = row_step(node, {}, to, [=, y = node.output](const Run& run, int64_t sample, int64_t row) {
    const int64_t begin = row * y.w * y.c;
    std::copy_n(values->data() + begin, y.w * y.c, run.at<float>(to) + sample * y.size() + begin);
  });
  step.bytes = node.output.bytes();
  plan.add(std::move(step));
}

namespace {

/// Where an input of a concatenation lies in the output: in rows from `first_row` on, `bytes` at `offset` of
/// every pixel, or of the row.
struct CatPart {
  int buffer;
  int64_t first_row, rows;
  int64_t offset, bytes;
};

}  // namespace

void add_steps(PlanBuilder& plan, const Node& node, const Cat& cat) {
  const Value& y = node.output;
  const int64_t element = element_bytes(y);
  const bool of_pixels = cat.axis == 0;
  std::vector<CatPart> parts;
  std::vector<int> reads;
  int64_t row = 0, offset = 0;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    const Value& x = plan.input(node, i);
    const int64_t bytes = (of_pixels ? 1 : x.w) * x.c * element;
    parts.push_back({plan.input_buffer(node, i), row, x.h, offset, bytes});
    reads.push_back(parts.back().buffer);
    (cat.axis == 1 ? row : offset) += cat.axis == 1 ? x.h : bytes;
  }
  const int to = plan.output_buffer(node);
  const int64_t copies = of_pixels ? y.w : 1, stride = (of_pixels ? 1 : y.w) * y.c * element;
  plan.add(row_step(node, reads, to, [=, h = y.h](const Run& run, int64_t sample, int64_t out_row) {
    uint8_t* const out = run.at<uint8_t>(to) + (sample * h + out_row) * copies * stride;
    for (const CatPart& part : parts) {
      const int64_t in_row = out_row - part.first_row;
      if (in_row < 0 || in_row >= part.rows) continue;
      const uint8_t* const in =
          run.at<const uint8_t>(part.buffer) + (sample * part.rows + in_row) * copies * part.bytes;
      copy_pixels(in, part.bytes, out + part.offset, stride, copies, part.bytes);
    }
  }));
}

void add_steps(PlanBuilder& plan, const Node& node, const Slice& slice) {
  const Value& y = node.output;
  const int from = plan.input_buffer(node);
  const int to = plan.output_buffer(node);
  const int64_t from_stride = plan.input(node).c * element_bytes(y);
  const int64_t bytes = y.c * element_bytes(y);
  const int64_t skipped = slice.start * element_bytes(y);
  plan.add(row_step(node, {from}, to, [=, h = y.h, w = y.w](const Run& run, int64_t sample, int64_t row) {
    const int64_t pixel = (sample * h + row) * w;
    copy_pixels(run.at<const uint8_t>(from) + pixel * from_stride + skipped, from_stride,
                run.at<uint8_t>(to) + pixel * bytes, bytes, w, bytes);
  }));
}

void add_steps(PlanBuilder& plan, const Node& node, const ChannelShuffle& shuffle) {
  const Value& y = node.output;
  const int from = plan.input_buffer(node);
  const int to = plan.output_buffer(node);
  plan.add(
      row_step(node, {from}, to, [=, groups = shuffle.groups](const Run& run, int64_t sample, int64_t row) {
        const int64_t begin = (sample * y.h + row) * y.w;
        for (int64_t pixel = begin; pixel < begin + y.w; ++pixel) {
          if (y.is_float) {
            shuffle_channels(run.at<const float>(from) + pixel * y.c, groups, y.c / groups,
                             run.at<float>(to) + pixel * y.c);
          } else {
            shuffle_channels(run.at<const uint8_t>(from) + pixel * y.c, groups, y.c / groups,
                             run.at<uint8_t>(to) + pixel * y.c);
          }
        }
      }));
}

/// The row (or column) of the image of which padding outside of [0, size) is a copy.
int64_t copied_by_padding(PadMode mode, int64_t index, int64_t size) {
  switch (mode) {
    case PadMode::kReflect:
      return index < 0 ? -index : index < size ? index : 2 * (size - 1) - index;
    case PadMode::kCircular:
      return (index + size) % size;
    default:
      return std::clamp(index, int64_t{0}, size - 1);
  }
}

void add_copying_pad(PlanBuilder& plan, const Node& node, const Pad& pad) {
  const Value& x = plan.input(node);
  const Value& y = node.output;
  const int from = plan.input_buffer(node);
  const int to = plan.output_buffer(node);
  const auto bytes = static_cast<size_t>(y.c * element_bytes(y));
  plan.add(row_step(node, {from}, to, [=](const Run& run, int64_t sample, int64_t row) {
    const int64_t x_row = sample * x.h + copied_by_padding(pad.mode, row - pad.top, x.h);
    const uint8_t* in = run.at<const uint8_t>(from) + static_cast<size_t>(x_row * x.w) * bytes;
    uint8_t* out = run.at<uint8_t>(to) + static_cast<size_t>((sample * y.h + row) * y.w) * bytes;
    const auto copy_column = [&](int64_t column) {
      const auto index = static_cast<size_t>(copied_by_padding(pad.mode, column - pad.left, x.w));
      std::memcpy(out + static_cast<size_t>(column) * bytes, in + index * bytes, bytes);
    };
    for (int64_t column = 0; column < pad.left; ++column) copy_column(column);
    std::memcpy(out + static_cast<size_t>(pad.left) * bytes, in, static_cast<size_t>(x.w) * bytes);
    for (int64_t column = pad.left + x.w; column < y.w; ++column) copy_column(column);
  }));
}

void add_steps(PlanBuilder& plan, const Node& node, const Pad& pad) {
  if (pad.mode != PadMode::kConstant) return add_copying_pad(plan, node, pad);
  const Value& x = plan.input(node);
  const Value& y = node.output;
  const int from = plan.input_buffer(node);
  const int to = plan.output_buffer(node);
  const int64_t pixel = y.c * element_bytes(y);
  const int64_t x_row = x.w * pixel;
  const int64_t y_row = y.w * pixel;
  const int64_t skipped = std::max(-pad.left, int64_t{0}) * pixel;
  const int64_t left = std::max(pad.left, int64_t{0}) * pixel;
  const int64_t copied = std::min(x_row - skipped, y_row - left);
  // Codes are padded with what stands for 0.0; so is float32, whose bytes are then 0 too.
  const int zero = y.is_float ? 0 : y.zero_point;
  plan.add(row_step(node, {from}, to,
                    [=, top = pad.top, x_h = x.h, y_h = y.h](const Run& run, int64_t sample, int64_t row) {
                      uint8_t* out = run.at<uint8_t>(to) + (sample * y_h + row) * y_row;
                      const int64_t x_index = row - top;
                      if (x_index < 0 || x_index >= x_h) {
                        std::memset(out, zero, static_cast<size_t>(y_row));
                        return;
                      }
                      std::memset(out, zero, static_cast<size_t>(left));
                      const int64_t begin = (sample * x_h + x_index) * x_row + skipped;
                      std::memcpy(out + left, run.at<const uint8_t>(from) + begin,
                                  static_cast<size_t>(copied));
                      std::memset(out + left + copied, zero, static_cast<size_t>(y_row - left - copied));
                    }));
}

void add_steps(PlanBuilder& plan, const Node& node, const PixelShuffle& shuffle) {
  const Value& y = node.output;
  const int from = plan.input_buffer(node);
  const int to = plan.output_buffer(node);
  const int64_t r = shuffle.factor;
  // A pixel of the input is [c][r * r], of which each row of the output takes r columns.
  const auto spread_row = [=, c = y.c, pixels = y.w / r](const auto* in, auto* out) {
    for (int64_t pixel = 0; pixel < pixels; ++pixel, in += c * r * r, out += c * r) {
      if (c == 1) {
        std::copy(in, in + r, out);
        continue;
      }
      for (int64_t j = 0; j < r; ++j) {
        for (int64_t i = 0; i < c; ++i) out[j * c + i] = in[i * r * r + j];
      }
    }
  };
  plan.add(row_step(node, {from}, to, [=, size = y.size()](const Run& run, int64_t sample, int64_t row) {
    const int64_t begin = sample * size + row / r * r * y.w * y.c + row % r * r;
    const int64_t end = sample * size + row * y.w * y.c;
    if (y.is_float) {
      spread_row(run.at<const float>(from) + begin, run.at<float>(to) + end);
    } else {
      spread_row(run.at<const uint8_t>(from) + begin, run.at<uint8_t>(to) + end);
    }
  }));
}

void add_steps(PlanBuilder& plan, const Node& node, const PixelUnshuffle& unshuffle) {
  const Value& x = plan.input(node);
  const Value& y = node.output;
  const int from = plan.input_buffer(node);
  const int to = plan.output_buffer(node);
  const int64_t r = unshuffle.factor;
  // r rows of the input, each r pixels of it, become one pixel [c][r][r].
  const auto gather_row = [=, c = x.c, row_size = x.w * x.c, pixels = y.w](const auto* in, auto* out) {
    for (int64_t pixel = 0; pixel < pixels; ++pixel, in += r * c, out += c * r * r) {
      for (int64_t i = 0; i < r; ++i) {
        const auto* row = in + i * row_size;
        if (c == 1) {
          std::copy(row, row + r, out + i * r);
          continue;
        }
        for (int64_t j = 0; j < r; ++j) {
          for (int64_t k = 0; k < c; ++k) out[(k * r + i) * r + j] = row[j * c + k];
        }
      }
    }
  };
  plan.add(row_step(node, {from}, to, [=, size = y.size()](const Run& run, int64_t sample, int64_t row) {
    const int64_t begin = sample * size + row * y.w * y.c;  // as many elements before it in either
    if (y.is_float) {
      gather_row(run.at<const float>(from) + begin, run.at<float>(to) + begin);
    } else {
      gather_row(run.at<const uint8_t>(from) + begin, run.at<uint8_t>(to) + begin);
    }
  }));
}

void add_steps(PlanBuilder& plan, const Node& node, const UpsampleNearest2d& upsample) {
  const Value& x = plan.input(node);
  const Value& y = node.output;
  const int from = plan.input_buffer(node);
  const int to = plan.output_buffer(node);
  const int64_t pixel_bytes = y.c * element_bytes(y);
  plan.add(row_step(
      node, {from}, to, [=, x_h = x.h, x_w = x.w, y_h = y.h](const Run& run, int64_t sample, int64_t row) {
        const uint8_t* in =
            run.at<const uint8_t>(from) + (sample * x_h + row / upsample.factor_h) * x_w * pixel_bytes;
        uint8_t* out = run.at<uint8_t>(to) + (sample * y_h + row) * x_w * upsample.factor_w * pixel_bytes;
        for (int64_t column = 0; column < x_w; ++column, in += pixel_bytes) {
          for (int64_t repeat = 0; repeat < upsample.factor_w; ++repeat, out += pixel_bytes) {
            std::memcpy(out, in, static_cast<size_t>(pixel_bytes));
          }
        }
      }));
}

void add_steps(PlanBuilder& plan, const Node& node, const UpsampleZeros2d& upsample) {
  if (only_read_by_phases(plan, node)) return;
  const Value& x = plan.input(node);
  const Value& y = node.output;
  const int from = plan.input_buffer(node);
  const int to = plan.output_buffer(node);
  const int64_t pixel_bytes = y.c * element_bytes(y);
  const int zero = y.is_float ? 0 : y.zero_point;
  plan.add(row_step(node, {from}, to, [=](const Run& run, int64_t sample, int64_t row) {
    uint8_t* out = run.at<uint8_t>(to) + (sample * y.h + row) * y.w * pixel_bytes;
    std::memset(out, zero, static_cast<size_t>(y.w * pixel_bytes));
    if (row % upsample.factor_h != 0) return;
    const int64_t pixel = (sample * x.h + row / upsample.factor_h) * x.w;
    copy_pixels(run.at<const uint8_t>(from) + pixel * pixel_bytes, pixel_bytes, out,
                upsample.factor_w * pixel_bytes, x.w, pixel_bytes);
  }));
}

}  // namespace ptqx::engine
