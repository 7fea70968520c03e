#include "image_input.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace {

constexpr int64_t kMaxPixels = 100'000'000;

struct Plane {
  int64_t height, width;
  std::vector<float> values;

  Plane(int64_t h, int64_t w) : height(h), width(w), values(static_cast<size_t>(h * w)) {}
  float& at(int64_t y, int64_t x) { return values[static_cast<size_t>(y * width + x)]; }
  float at(int64_t y, int64_t x) const { return values[static_cast<size_t>(y * width + x)]; }
};

Plane channel_of(const Image& image, int64_t channel, bool luma) {
  Plane plane(image.height, image.width);
  for (size_t i = 0; i < plane.values.size(); ++i) {
    const uint8_t* pixel = image.pixels.data() + 3 * i;
    plane.values[i] =
        luma ? static_cast<float>((19595 * pixel[0] + 38470 * pixel[1] + 7471 * pixel[2] + 32768) >> 16)
             : static_cast<float>(pixel[channel]);
  }
  return plane;
}

/// A triangle filter, as wide as the distance between output pixels but no narrower than two input pixels.
struct Taps {
  int64_t first;
  std::vector<float> weights;
};

std::vector<Taps> resize_taps(int64_t in, int64_t out) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const double support = std::max(scale, 1.0);
  std::vector<Taps> taps;
  for (int64_t i = 0; i < out; ++i) {
    const double center = scale * (static_cast<double>(i) + 0.5);
    const auto first = std::max<int64_t>(static_cast<int64_t>(center - support + 0.5), 0);
    const auto end = std::min<int64_t>(static_cast<int64_t>(center + support + 0.5), in);
    Taps tap{first, {}};
    double sum = 0;
    for (int64_t j = first; j < end; ++j) {
      const double distance = std::abs(static_cast<double>(j) - center + 0.5) / support;
      tap.weights.push_back(static_cast<float>(std::max(1.0 - distance, 0.0)));
      sum += tap.weights.back();
    }
    for (float& weight : tap.weights) weight = static_cast<float>(weight / sum);
    taps.push_back(std::move(tap));
  }
  return taps;
}

Plane resized_width(const Plane& in, int64_t width) {
  Plane out(in.height, width);
  const std::vector<Taps> taps = resize_taps(in.width, width);
  for (int64_t y = 0; y < in.height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      const Taps& tap = taps[static_cast<size_t>(x)];
      float sum = 0;
      for (size_t k = 0; k < tap.weights.size(); ++k) {
        sum += tap.weights[k] * in.at(y, tap.first + static_cast<int64_t>(k));
      }
      out.at(y, x) = sum;
    }
  }
  return out;
}

Plane transposed(const Plane& in) {
  Plane out(in.width, in.height);
  for (int64_t y = 0; y < in.height; ++y) {
    for (int64_t x = 0; x < in.width; ++x) out.at(x, y) = in.at(y, x);
  }
  return out;
}

Plane resized(const Plane& in, int64_t height, int64_t width) {
  if (in.height == height && in.width == width) return in;
  return transposed(resized_width(transposed(resized_width(in, width)), height));
}

/// Half of what is cut away, half to even.
int64_t margin(int64_t in, int64_t out) {
  return static_cast<int64_t>(std::nearbyint(static_cast<double>(in - out) / 2));
}

}  // namespace

std::vector<float> image_input(const Image& image, const ptqx::engine::ImageOptions& options,
                               const std::vector<int64_t>& shape) {
  const int64_t channels = shape[0], height = shape[1], width = shape[2];
  const int64_t target = options.resize > 0 ? options.resize : std::max(height, width);
  if (target < std::max(height, width)) {
    throw std::runtime_error("images resized to " + std::to_string(target) + " pixels can't be cropped to " +
                             std::to_string(width) + "x" + std::to_string(height));
  }
  const int64_t shorter = std::min(image.height, image.width);
  const int64_t full_height = image.height * target / shorter, full_width = image.width * target / shorter;
  if (full_height * full_width > kMaxPixels) {
    throw std::runtime_error("an image of " + std::to_string(image.width) + "x" +
                             std::to_string(image.height) + " pixels is too long and narrow to be resized");
  }
  const int64_t top = margin(full_height, height), left = margin(full_width, width);
  std::vector<float> input;
  input.reserve(static_cast<size_t>(channels * height * width));
  for (int64_t c = 0; c < channels; ++c) {
    const Plane plane = resized(channel_of(image, c, channels == 1), full_height, full_width);
    const float mean = options.mean[static_cast<size_t>(c)], std = options.std[static_cast<size_t>(c)];
    for (int64_t y = 0; y < height; ++y) {
      for (int64_t x = 0; x < width; ++x)
        input.push_back((plane.at(top + y, left + x) / 255.0F - mean) / std);
    }
  }
  return input;
}
