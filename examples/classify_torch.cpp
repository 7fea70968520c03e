// classify in LibTorch: torchvision's operators read and decode the files, ptqx's operator runs the network.
//     classify_torch MODEL.ptqx IMAGE... [options of classify] [--torchvision FOLDER]
// FOLDER is an installed torchvision package, by default the one beside torch. Of images with 16 bits a
// sample the upper 8 are used, as in classify.

#include <ATen/Parallel.h>
#include <dlfcn.h>
#include <torch/torch.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <stdexcept>

#include "classification.h"
#include "engine/engine.h"

namespace {

namespace fs = std::filesystem;

constexpr int64_t kRgb = 3;  // torchvision.io.ImageReadMode.RGB

void load(const fs::path& library) {
  if (dlopen(library.c_str(), RTLD_NOW) == nullptr) throw std::runtime_error(dlerror());
}

/// Loading a library registers its operators. Theirs are in image.so (torchvision 0.28) or image_stable.so
/// (0.29).
void load_image_operators(const fs::path& torchvision) try {
  std::vector<fs::path> libraries{torchvision / "image.so", torchvision / "image_stable.so"};
  std::erase_if(libraries, [](const fs::path& library) { return !fs::exists(library); });
  if (libraries.empty()) {
    throw std::runtime_error(torchvision.string() + " has neither image.so nor image_stable.so");
  }
  load(TORCH_FOLDER "/lib/libtorch_python.so");  // torchvision needs it and does not say where it is
  std::for_each(libraries.begin(), libraries.end(), load);
} catch (const std::runtime_error& error) {
  throw std::runtime_error(std::string("torchvision's image operators can't be loaded (") + error.what() +
                           "): install the torchvision that was built for this torch, or use classify, which "
                           "needs neither");
}

/// Boxed, as torchvision's versions differ in whether they register C++ signatures.
torch::Tensor call(const char* name, torch::jit::Stack arguments) {
  c10::Dispatcher::singleton().findSchemaOrThrow(name, "").callBoxed(arguments);
  return arguments.at(0).toTensor();
}

/// Where a message of torch goes on, it says where in torch it comes from.
std::string first_line(const std::exception& error) {
  const auto* of_torch = dynamic_cast<const c10::Error*>(&error);
  const std::string text = of_torch != nullptr ? of_torch->what_without_backtrace() : error.what();
  return text.substr(0, text.find('\n'));
}

Image read(const std::string& path) try {
  const torch::Tensor bytes = call("image::read_file", {path});
  torch::Tensor pixels = call("image::decode_image", {bytes, kRgb, /*apply_exif_orientation=*/false});
  if (pixels.dim() != 3 || pixels.size(0) != 3) {
    throw std::runtime_error("expected one image in red, green and blue, got the shape " +
                             c10::str(pixels.sizes()));
  }
  if (pixels.scalar_type() == torch::kUInt16) pixels = pixels.to(torch::kInt).bitwise_right_shift(8);
  pixels = pixels.to(torch::kByte).permute({1, 2, 0}).contiguous();
  const auto* data = pixels.const_data_ptr<uint8_t>();
  return {.height = pixels.size(0), .width = pixels.size(1), .pixels = {data, data + pixels.numel()}};
} catch (const std::exception& error) {
  throw std::runtime_error(path + ": " + first_line(error));
}

Classifier classifier(const std::string& model) {
  const auto engine = ptqx::engine::Engine::open(model);  // only asked for shapes, the operator makes its own
  const auto bytes = static_cast<int64_t>(fs::file_size(model));
  const torch::Tensor program = torch::from_file(model, /*shared=*/false, bytes, torch::kByte);
  const auto engine_run =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("ptqx::engine_run", "")
          .typed<torch::Tensor(const torch::Tensor&, const torch::Tensor&, c10::IntArrayRef)>();

  std::vector<int64_t> shape{0};
  shape.insert(shape.end(), engine.input_shape().begin(), engine.input_shape().end());
  const auto run = [=, output_shape = engine.output_shape()](const float* input, int64_t images,
                                                             float* logits) mutable {
    shape[0] = images;
    const torch::Tensor batch = torch::from_blob(const_cast<float*>(input), shape);
    const torch::Tensor output = engine_run.call(batch, program, output_shape);
    std::copy_n(output.const_data_ptr<float>(), output.numel(), logits);
  };
  return {engine.input_shape(), engine.output_size(), read, run};
}

}  // namespace

int main(int argc, char** argv) try {
  std::vector<std::string> options = classify_options();
  options.push_back("--torchvision");
  const Arguments arguments(argc, argv, options);
  if (arguments.rest().size() < 2) {
    std::fputs("usage: classify_torch MODEL.ptqx IMAGE... [options of classify] [--torchvision FOLDER]\n",
               stderr);
    return 2;
  }
  at::set_num_threads(thread_count(arguments));
  load_image_operators(arguments.text("--torchvision", TORCH_FOLDER "/../torchvision"));
  classify(classifier(arguments.rest()[0]), arguments);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", first_line(error).c_str());
  return 2;
}
