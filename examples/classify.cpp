// Classifies JPEG and PNG files with a .ptqx file: prints the five largest outputs of each, as
// probabilities.
//     classify MODEL.ptqx IMAGE... [--threads 1] [--resize PIXELS] [--mean R,G,B] [--std R,G,B]
//              [--dump-input FILE] [--dump-output FILE]
// Options replace what the model file says of its images; the dumps are float32, of all images in order.

#include <cstdio>
#include <exception>

#include "classification.h"
#include "engine/engine.h"

int main(int argc, char** argv) try {
  const Arguments arguments(argc, argv, classify_options());
  if (arguments.rest().size() < 2) {
    std::fputs(
        "usage: classify MODEL.ptqx IMAGE... [--threads 1] [--resize PIXELS] [--mean R,G,B] [--std R,G,B]\n"
        "                [--dump-input FILE] [--dump-output FILE]\n",
        stderr);
    return 2;
  }
  const auto engine = ptqx::engine::Engine::open(arguments.rest()[0]);
  const ptqx::engine::ThreadExecutor executor(thread_count(arguments));
  const auto run = [&](const float* input, int64_t images, float* logits) {
    engine.run(input, images, logits, executor);
  };
  classify({engine.input_shape(), engine.output_size(), read_image, run}, arguments);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 2;
}
