// The operators from C++ through the dispatcher: no Python in this process. Values in full are the Python
// tests' work; here, that a LibTorch program can call, differentiate and be told what is wrong.

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <limits>

namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

template <class Result, class... Args>
Result call(const char* name, const Args&... args) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Result(Args...)>().call(args...);
}

Tensor real(float value) { return at::full({1}, value); }
Tensor whole(int64_t value) { return at::full({1}, value, at::kInt); }

Tensor quantize(const Tensor& x, const Tensor& scale, const Tensor& zero_point, int64_t qmin, int64_t qmax) {
  return call<Tensor, const Tensor&, const Tensor&, const Tensor&, int64_t, int64_t, int64_t, int64_t>(
      "ptqx::quantize", x, scale, zero_point, qmin, qmax, 0, 0);
}

Tensor fake_quantize(const Tensor& x, const Tensor& scale, const Tensor& zero_point) {
  return call<Tensor, const Tensor&, const Tensor&, const Tensor&, int64_t, int64_t, int64_t, int64_t>(
      "ptqx::fake_quantize", x, scale, zero_point, 0, 15, 0, 0);
}

struct Codes {
  Tensor values, scale = real(0.05F), zero_point = whole(120);
};

Tensor conv2d(const Codes& input, const Codes& weight, const Codes& output, at::IntArrayRef padding) {
  return call<Tensor, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
              const OptionalTensor&, const OptionalTensor&, const Tensor&, const Tensor&, int64_t, int64_t,
              at::IntArrayRef, at::IntArrayRef, at::IntArrayRef, int64_t, c10::string_view,
              at::ArrayRef<double>, const OptionalTensor&, const OptionalTensor&, const OptionalTensor&,
              const OptionalTensor&, int64_t, int64_t, at::OptionalIntArrayRef, const OptionalTensor&>(
      "ptqx::conv2d", input.values, input.scale, input.zero_point, weight.values, weight.scale, std::nullopt,
      std::nullopt, output.scale, output.zero_point, 0, 255, {1, 1}, padding, {1, 1}, 1, "clip",
      {0.0, std::numeric_limits<double>::infinity()}, std::nullopt, std::nullopt, std::nullopt, std::nullopt,
      0, 8, std::nullopt, std::nullopt);
}

TEST(Ops, quantize_divides_and_rounds_half_to_even) {
  const Tensor x = at::tensor({-9.0F, -0.25F, 0.25F, 0.75F, 9.0F});
  const Tensor codes = quantize(x, real(0.5F), whole(3), 0, 15);
  EXPECT_TRUE(at::equal(codes, at::tensor({0, 3, 3, 5, 15}, at::kByte))) << codes;
}

TEST(Ops, quantize_of_images_is_channels_last) {
  const Tensor codes = quantize(at::rand({2, 3, 5, 7}), real(0.01F), whole(0), 0, 255);
  EXPECT_TRUE(codes.is_contiguous(at::MemoryFormat::ChannelsLast));
}

TEST(Ops, conv2d_equals_convolution_of_doubles) {
  at::manual_seed(0);
  const Codes input{.values = at::randint(0, 256, {2, 5, 7, 6}).to(at::kByte)};
  const Codes weight{.values = at::randint(-128, 128, {9, 5, 3, 3}).to(at::kChar), .scale = real(0.02F)};
  const Codes output{.values = {}, .scale = real(0.7F), .zero_point = whole(11)};
  const Tensor codes = conv2d(input, weight, output, {1, 1, 1, 1});

  const Tensor sums = at::conv2d(input.values.to(at::kDouble) - 120, weight.values.to(at::kDouble), {}, 1, 1);
  const Tensor t = sums.to(at::kFloat) * ((input.scale * weight.scale) / output.scale);
  const Tensor expected = (at::round(at::clamp_min(t, 0)) + 11).clamp(0, 255).to(at::kByte);
  EXPECT_TRUE(at::equal(codes, expected));
}

TEST(Ops, fake_quantize_backward_is_straight_through) {
  const Tensor x = at::tensor({-1.0F, 0.3F, 9.0F}).requires_grad_();
  const Tensor scale = real(0.5F).requires_grad_();
  const Tensor zero_point = real(0.0F).requires_grad_();
  const Tensor y = fake_quantize(x, scale, zero_point);
  EXPECT_TRUE(at::equal(y, at::tensor({0.0F, 0.5F, 7.5F}))) << y;

  torch::autograd::backward({y}, {at::ones({3})});
  EXPECT_TRUE(at::equal(x.grad(), at::tensor({0.0F, 1.0F, 0.0F}))) << x.grad();
  EXPECT_FLOAT_EQ(scale.grad().item<float>(), 0.0F + (1.0F - 0.6F) + 15.0F);
  EXPECT_FLOAT_EQ(zero_point.grad().item<float>(), -0.5F * 2.0F);
}

TEST(Ops, backward_cannot_be_differentiated) {
  const Tensor x = at::rand({4}).requires_grad_();
  const Tensor y = fake_quantize(x, real(0.1F).requires_grad_(), whole(0)).square().sum();
  const auto grads = torch::autograd::grad({y}, {x}, {}, true, true);
  EXPECT_THROW(torch::autograd::backward({grads[0].sum()}), c10::Error);
}

TEST(Ops, meta_tensors_have_shapes_and_strides_without_data) {
  const Tensor x = at::empty({2, 3, 5, 7}, at::TensorOptions(at::kMeta).dtype(at::kFloat));
  const Tensor codes = quantize(x, real(0.01F).to(at::kMeta), whole(0).to(at::kMeta), -128, 127);
  EXPECT_EQ(codes.scalar_type(), at::kChar);
  EXPECT_EQ(codes.strides(), (at::IntArrayRef{105, 1, 21, 3}));
}

TEST(Ops, bad_arguments_are_value_errors) {
  EXPECT_THROW(quantize(at::rand({3}), real(0.0F), whole(0), 0, 255), c10::ValueError);
  EXPECT_THROW(quantize(at::full({3}, NAN), real(1.0F), whole(0), 0, 255), c10::ValueError);
  EXPECT_THROW(quantize(at::rand({3}), real(1.0F), whole(256), 0, 255), c10::ValueError);
}

TEST(Ops, engine_run_refuses_what_is_not_a_program) {
  const Tensor program = at::zeros({64}, at::kByte);
  const auto run = [&] {
    return call<Tensor, const Tensor&, const Tensor&, at::IntArrayRef>("ptqx::engine_run", at::rand({1, 3}),
                                                                       program, {4});
  };
  EXPECT_THROW(run(), c10::ValueError);
}

}  // namespace
