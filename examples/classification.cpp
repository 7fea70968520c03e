#include "classification.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <numeric>
#include <stdexcept>

#include "engine/container.h"
#include "image_input.h"

namespace {

using ptqx::engine::ImageOptions;

ImageOptions image_options(const std::string& model, const Arguments& arguments, int64_t channels) {
  auto options =
      ptqx::engine::read_image_options(ptqx::engine::Container::open(model)).value_or(ImageOptions{});
  if (arguments.has("--mean")) options.mean = arguments.numbers("--mean");
  if (arguments.has("--std")) options.std = arguments.numbers("--std");
  options.resize = arguments.whole("--resize", options.resize, 0, 65535);
  const auto count = static_cast<size_t>(channels);
  const bool positive = std::all_of(options.std.begin(), options.std.end(), [](float s) { return s > 0; });
  if (options.mean.size() != count || options.std.size() != count || !positive) {
    throw std::invalid_argument(model + ": needs --mean and --std of " + std::to_string(channels) +
                                " channels, std positive" +
                                (options.mean.empty() ? "; the file does not say them" : ""));
  }
  return options;
}

void dump(const std::string& path, const std::vector<float>& values) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(values.data()),
             static_cast<std::streamsize>(values.size() * sizeof(float)));
  if (!file.flush()) throw std::runtime_error(path + ": it can't be written");
}

void print_top5(const float* logits, size_t count, const std::vector<std::string>& classes) {
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  const size_t shown = std::min<size_t>(5, count);
  std::partial_sort(
      order.begin(), order.begin() + static_cast<std::ptrdiff_t>(shown), order.end(),
      [&](size_t a, size_t b) { return logits[a] > logits[b] || (logits[a] == logits[b] && a < b); });
  double sum = 0;
  for (size_t i = 0; i < count; ++i) sum += std::exp(double{logits[i]} - logits[order[0]]);
  for (size_t rank = 0; rank < shown; ++rank) {
    const size_t i = order[rank];
    const std::string name = i < classes.size() ? classes[i] : std::to_string(i);
    std::printf("  %6.2f %%  %s\n", 100 * std::exp(double{logits[i]} - logits[order[0]]) / sum, name.c_str());
  }
}

}  // namespace

const std::vector<std::string>& classify_options() {
  static const std::vector<std::string> names{"--threads", "--resize",     "--mean",
                                              "--std",     "--dump-input", "--dump-output"};
  return names;
}

int thread_count(const Arguments& arguments) {
  return static_cast<int>(arguments.whole("--threads", 1, 1, 1024));
}

void classify(const Classifier& classifier, const Arguments& arguments) {
  const std::string& model = arguments.rest()[0];
  const std::vector<int64_t>& shape = classifier.input_shape;
  if (shape.size() != 3 || (shape[0] != 1 && shape[0] != 3)) {
    throw std::runtime_error(model + ": its input is no image of 1 or 3 channels");
  }
  const ImageOptions options = image_options(model, arguments, shape[0]);

  std::vector<float> input;
  for (size_t i = 1; i < arguments.rest().size(); ++i) {
    const std::vector<float> one = image_input(classifier.read(arguments.rest()[i]), options, shape);
    input.insert(input.end(), one.begin(), one.end());
  }
  const size_t images = arguments.rest().size() - 1, outputs = static_cast<size_t>(classifier.outputs);
  std::vector<float> logits(images * outputs);
  classifier.run(input.data(), static_cast<int64_t>(images), logits.data());
  if (arguments.has("--dump-input")) dump(arguments.text("--dump-input", ""), input);
  if (arguments.has("--dump-output")) dump(arguments.text("--dump-output", ""), logits);
  for (size_t i = 0; i < images; ++i) {
    std::printf("%s\n", arguments.rest()[i + 1].c_str());
    print_top5(logits.data() + i * outputs, outputs, options.classes);
  }
}
