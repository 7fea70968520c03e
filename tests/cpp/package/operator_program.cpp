// A LibTorch program without Python: integer convolution through the dispatcher.
#include <torch/torch.h>

#include <cstdio>

int main() {
  const torch::Tensor image = torch::rand({2, 3, 8, 8});
  const torch::Tensor scale = torch::full({1}, 1.0F / 255.0F);
  const torch::Tensor zero_point = torch::zeros({1}, torch::kInt32);

  const auto quantize = c10::Dispatcher::singleton()
                            .findSchemaOrThrow("ptqx::quantize", "")
                            .typed<torch::Tensor(const torch::Tensor&, const torch::Tensor&,
                                                 const torch::Tensor&, int64_t, int64_t, int64_t, int64_t)>();
  const torch::Tensor codes = quantize.call(image, scale, zero_point, 0, 255, 0, 0);
  const torch::Tensor expected = torch::round(image / scale).clamp(0, 255).to(torch::kUInt8);
  if (!torch::equal(codes, expected)) {
    std::puts("ptqx::quantize differs from its formula");
    return 1;
  }
  std::puts("operators: ok");
  return 0;
}
