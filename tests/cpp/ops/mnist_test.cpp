// Real images through torch.ops.ptqx.engine_run: MNIST by LibTorch's own reader, against the reference's
// loops and against the engine that has no torch.

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <gtest/gtest.h>
#include <torch/data/datasets/mnist.h>

#include <filesystem>

#include "engine/engine.h"
#include "engine/graph_builder.h"
#include "engine/reference.h"

namespace {

using at::Tensor;
namespace engine = ptqx::engine;
namespace small = ptqx::engine::testing;
using small::Graph;
using small::GraphBuilder;
using small::Made;

constexpr int64_t kImages = 24;

/// Quantize, conv 5x5 with ReLU, max-pool, conv 3x3 of 4-bit weights, linear to 10 outputs.
Graph network(unsigned seed) {
  GraphBuilder b({1, 28, 28}, seed);
  small::ConvOptions first;
  first.out = 8;
  first.kernel = {5, 5};
  first.padding = {2, 2, 2, 2};
  first.activation = "relu";
  small::ConvOptions second;
  second.out = 20;
  second.bits = 4;
  const nlohmann::json window = {{"kernel_size", {2, 2}},
                                 {"stride", {2, 2}},
                                 {"padding", {0, 0}},
                                 {"dilation", {1, 1}},
                                 {"ceil_mode", false}};
  const Made codes = b.quantize(b.input, {1.0F / 255.0F, 0});
  const Made pooled = b.moved("max_pool2d", {b.conv2d(codes, first)}, {8, 14, 14}, window);
  const Made maps = b.conv2d(pooled, second);
  const Made flat = b.moved("flatten", {maps}, {20 * 12 * 12}, {{"start_dim", 1}});
  small::ConvOptions last;
  last.out = 10;
  last.float_output = true;
  return b.finish(b.linear(flat, last));
}

class Mnist : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string folder = PTQX_DATA_DIR "/MNIST/raw";
    if (!std::filesystem::exists(folder + "/t10k-images-idx3-ubyte")) {
      GTEST_SKIP() << "MNIST is not in " << folder;
    }
    const torch::data::datasets::MNIST test(folder, torch::data::datasets::MNIST::Mode::kTest);
    ASSERT_EQ(test.size().value(), 10'000U);
    images = test.images().slice(0, 0, kImages).contiguous();
    ASSERT_EQ(images.sizes(), (at::IntArrayRef{kImages, 1, 28, 28}));
    ASSERT_GT(images.max().item<float>(), 0.99F);
  }

  Tensor images;
};

TEST_F(Mnist, engine_run_equals_the_reference_and_the_engine_without_torch) {
  const Graph graph = network(2);  // with zero points that leave every output alive
  const std::vector<uint8_t> bytes = graph.bytes();
  const Tensor program =
      at::from_blob(const_cast<uint8_t*>(bytes.data()), {static_cast<int64_t>(bytes.size())}, at::kByte)
          .clone();
  const Tensor output = c10::Dispatcher::singleton()
                            .findSchemaOrThrow("ptqx::engine_run", "")
                            .typed<Tensor(const Tensor&, const Tensor&, at::IntArrayRef)>()
                            .call(images, program, {10});
  ASSERT_EQ(output.sizes(), (at::IntArrayRef{kImages, 10}));

  Tensor expected = at::empty({kImages, 10});
  for (int64_t i = 0; i < kImages; ++i) {
    const float* pixels = images.const_data_ptr<float>() + i * 784;
    const std::vector<float> one = small::reference_run(graph, {pixels, pixels + 784});
    expected[i].copy_(at::tensor(one));
  }
  EXPECT_TRUE(at::equal(output, expected));
  EXPECT_GT(output.std(0).min().item<float>(), 0.0F) << "different images give different outputs";

  Tensor alone = at::empty({kImages, 10});
  engine::Engine::from_bytes(bytes).run(images.const_data_ptr<float>(), kImages,
                                        alone.mutable_data_ptr<float>(), engine::ThreadExecutor(2));
  EXPECT_TRUE(at::equal(output, alone));
}

}  // namespace
