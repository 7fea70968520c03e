// Classifies JPEG and PNG files with a .ptqx file: prints the five largest outputs of each, as
// probabilities.
//     classify MODEL.ptqx IMAGE... [--threads 1] [--resize PIXELS] [--mean R,G,B] [--std R,G,B]
//              [--dump-input FILE] [--dump-output FILE]
// Options replace what the model file says of its images; the dumps are float32, of all images in order.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <numeric>
#include <stdexcept>

#include "arguments.h"
#include "engine/container.h"
#include "engine/engine.h"
#include "image_input.h"

namespace {

using ptqx::engine::ImageOptions;

constexpr const char* kUsage =
    "usage: classify MODEL.ptqx IMAGE... [--threads 1] [--resize PIXELS] [--mean R,G,B] [--std R,G,B]\n"
    "                [--dump-input FILE] [--dump-output FILE]";

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

void classify(const Arguments& arguments) {
  const std::string& model = arguments.rest()[0];
  const auto engine = ptqx::engine::Engine::open(model);
  if (engine.input_shape().size() != 3 || (engine.input_shape()[0] != 1 && engine.input_shape()[0] != 3)) {
    throw std::runtime_error(model + ": its input is no image of 1 or 3 channels");
  }
  const ImageOptions options = image_options(model, arguments, engine.input_shape()[0]);
  const ptqx::engine::ThreadExecutor executor(static_cast<int>(arguments.whole("--threads", 1, 1, 1024)));

  std::vector<float> input;
  for (size_t i = 1; i < arguments.rest().size(); ++i) {
    const std::vector<float> one =
        image_input(read_image(arguments.rest()[i]), options, engine.input_shape());
    input.insert(input.end(), one.begin(), one.end());
  }
  const size_t images = arguments.rest().size() - 1, outputs = static_cast<size_t>(engine.output_size());
  std::vector<float> logits(images * outputs);
  engine.run(input.data(), static_cast<int64_t>(images), logits.data(), executor);
  if (arguments.has("--dump-input")) dump(arguments.text("--dump-input", ""), input);
  if (arguments.has("--dump-output")) dump(arguments.text("--dump-output", ""), logits);
  for (size_t i = 0; i < images; ++i) {
    std::printf("%s\n", arguments.rest()[i + 1].c_str());
    print_top5(logits.data() + i * outputs, outputs, options.classes);
  }
}

}  // namespace

int main(int argc, char** argv) try {
  const Arguments arguments(argc, argv,
                            {"--threads", "--resize", "--mean", "--std", "--dump-input", "--dump-output"});
  if (arguments.rest().size() < 2) {
    std::fprintf(stderr, "%s\n", kUsage);
    return 2;
  }
  classify(arguments);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 2;
}
