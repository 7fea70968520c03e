// A LibTorch program without Python: loads an AOTInductor package whose graph calls ptqx's operators and
// compares its output with the one that Python saved beside it.
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/torch.h>

#include <cstdio>
#include <fstream>
#include <iterator>

int main(int argc, char** argv) {
  if (argc != 3) {
    std::puts("usage: aoti_program MODEL.pt2 TENSORS.pt");
    return 2;
  }
  try {
    torch::NoGradGuard no_grad;
    std::ifstream file(argv[2], std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    const torch::IValue saved = torch::pickle_load(bytes);  // (input, output)
    const auto& tensors = saved.toTupleRef().elements();
    torch::inductor::AOTIModelPackageLoader loader(argv[1]);
    const std::vector<torch::Tensor> outputs = loader.run({tensors.at(0).toTensor()});
    if (outputs.size() != 1 || !torch::equal(outputs[0], tensors.at(1).toTensor())) {
      std::puts("the package's output differs from Python's");
      return 1;
    }
  } catch (const std::exception& error) {
    std::puts(error.what());
    return 1;
  }
  std::puts("package: ok");
  return 0;
}
