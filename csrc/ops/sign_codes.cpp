// sign_codes: on which side of a threshold a value lies, -1 or 1, which bfloat16 holds exactly. Its gradients
// are those of scale * sign(input - threshold), through the clipped identity, for a reader that multiplies by
// the scale again, as a constant. lsq_codes is the same for evenly spaced levels.

#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/where.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "ops/checks.h"
#include "ops/fake_quantize.h"
#include "ops/kept_memory.h"
#include "ops/registration.h"

namespace ptqx::ops {
namespace {

// ---- shape ----

using Dtype = std::optional<at::ScalarType>;

void check_sign_codes(const Tensor& input, const Tensor& scale, const Tensor& threshold) {
  check_real(input, "input");
  check_dtype(scale, "scale", {at::kFloat});
  check_dtype(threshold, "threshold", {at::kFloat});
  TORCH_CHECK_VALUE(scale.sym_numel() == 1 && threshold.sym_numel() == 1,
                    "scale and threshold must have one element, got shapes ", scale.sym_sizes(), " and ",
                    threshold.sym_sizes());
}

at::ScalarType code_dtype(const Tensor& input, Dtype dtype) {
  const at::ScalarType chosen = dtype.value_or(input.scalar_type());
  TORCH_CHECK_VALUE(at::isFloatingType(chosen), "dtype must be a floating type, got ", chosen);
  return chosen;
}

Tensor sign_codes_meta(const Tensor& input, const Tensor& scale, const Tensor& threshold, Dtype dtype) {
  check_sign_codes(input, scale, threshold);
  return at::empty_like(input, input.options().dtype(code_dtype(input, dtype)));
}

void check_sign_codes_backward(const Tensor& grad, const Tensor& input, const Tensor& scale,
                               const Tensor& threshold) {
  check_sign_codes(input, scale, threshold);
  check_real(grad, "grad");
  check_grad(grad, input);
}

Gradients sign_codes_backward_meta(const Tensor& grad, const Tensor& input, const Tensor& scale,
                                   const Tensor& threshold) {
  check_sign_codes_backward(grad, input, scale, threshold);
  return {at::empty_like(input), at::empty_like(scale), at::empty_like(threshold)};
}

// ---- any device ----

Tensor sign_codes_composite(const Tensor& input, const Tensor& scale, const Tensor& threshold, Dtype dtype) {
  check_sign_codes(input, scale, threshold);
  const Tensor above = input.to(at::kFloat).sub(threshold.reshape({}));
  const Tensor signs = at::where(above.ge(0), 1.0, at::where(above.lt(0), -1.0, above));
  return at::empty_like(input, input.options().dtype(code_dtype(input, dtype))).copy_(signs);
}

Gradients sign_codes_backward_composite(const Tensor& grad, const Tensor& input, const Tensor& scale,
                                        const Tensor& threshold) {
  check_sign_codes_backward(grad, input, scale, threshold);
  const Tensor one_scale = scale.reshape({});
  const Tensor above = input.to(at::kFloat).sub(threshold.reshape({}));
  const Tensor shares = grad.to(at::kFloat).div(one_scale);
  const Tensor inside = above.abs().le(one_scale);
  const Tensor dx = at::where(inside, shares, 0.0);
  const Tensor clipped = at::where(inside, shares.mul(above).div(one_scale), 0.0);  // 0 * inf would be NaN
  const Tensor by_scale = shares.mul(at::where(above.ge(0), 1.0, -1.0)).sub(clipped);
  return {at::empty_like(input).copy_(dx), by_scale.sum(at::kDouble).to(at::kFloat).reshape_as(scale),
          dx.sum(at::kDouble).neg().to(at::kFloat).reshape_as(threshold)};
}

// ---- CPU ----

constexpr int64_t kPiece = 2048;  // elements: as float32 two or three arrays of them lie in the L1 cache
constexpr int64_t kGrain = 8;     // pieces a thread takes at least
constexpr int64_t kLanes = 16;    // partial sums, whatever the vectors are

bool has_kernel(const Tensor& tensor) {
  return tensor.scalar_type() == at::kFloat || tensor.scalar_type() == at::kBFloat16;
}

/// `tensor` with the memory layout of `like`, of a type that kernels take.
Tensor readable(const Tensor& tensor, const Tensor& like) {
  if (tensor.strides() == like.strides() && has_kernel(tensor)) return tensor;
  const at::ScalarType dtype = has_kernel(tensor) ? tensor.scalar_type() : at::kFloat;
  return at::empty_like(like, like.options().dtype(dtype)).copy_(tensor);
}

/// What kernels write in place of `output`: itself where they know its type.
Tensor writable(const Tensor& output) {
  return has_kernel(output) ? output : at::empty_like(output, output.options().dtype(at::kFloat));
}

template <class Real>
void fill_floats(const Real* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<float>(from[i]);
}

/// Elements [first, first + count) as float32: where they lie, or in `buffer`.
const float* read_floats(const Tensor& tensor, int64_t first, int64_t count, float* buffer) {
  if (tensor.scalar_type() == at::kFloat) return tensor.const_data_ptr<float>() + first;
  fill_floats(tensor.const_data_ptr<at::BFloat16>() + first, count, buffer);
  return buffer;
}

void write_floats(const float* from, int64_t first, int64_t count, const Tensor& tensor) {
  if (tensor.scalar_type() == at::kFloat) {
    std::copy_n(from, count, tensor.mutable_data_ptr<float>() + first);
    return;
  }
  at::BFloat16* to = tensor.mutable_data_ptr<at::BFloat16>() + first;
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<at::BFloat16>(from[i]);
}

/// body(piece, first element, elements) for all pieces, on torch's threads.
template <class Body>
void for_each_piece(const Tensor& tensor, const Body& body) {
  const int64_t elements = tensor.numel();
  at::parallel_for(0, (elements + kPiece - 1) / kPiece, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t piece = begin; piece < end; ++piece) {
      body(piece, piece * kPiece, std::min(kPiece, elements - piece * kPiece));
    }
  });
}

void piece_signs(const float* x, int64_t count, float threshold, float* y) {
  for (int64_t i = 0; i < count; ++i) {
    const float above = x[i] - threshold;
    const float below_or_nan = above < 0.0F ? -1.0F : above;
    y[i] = above >= 0.0F ? 1.0F : below_or_nan;
  }
}

struct Sums {
  double scale = 0.0;      // of grad / scale * (sign - above / scale inside the clip, sign outside)
  double threshold = 0.0;  // of grad / scale inside the clip
};

/// One piece: dx = grad / scale where |x - threshold| <= scale, else 0.
Sums piece_gradients(const float* grad, const float* x, int64_t count, float scale, float threshold,
                     float* dx) {
  alignas(64) float by_scale[kLanes] = {};
  alignas(64) float by_threshold[kLanes] = {};
  const auto element = [&](int64_t i, int64_t lane) {
    const float above = x[i] - threshold;
    const float share = grad[i] / scale;
    const float inside = std::abs(above) <= scale ? share : 0.0F;
    const float held = std::min(std::max(above, -scale), scale);  // outside, 0 * inf would be NaN
    by_scale[lane] += (above >= 0.0F ? share : -share) - inside * held / scale;
    by_threshold[lane] += inside;
    dx[i] = inside;
  };
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) element(i + lane, lane);
  }
  for (int64_t lane = 0; i < count; ++i, ++lane) element(i, lane);
  Sums sums;
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    sums.scale += static_cast<double>(by_scale[lane]);
    sums.threshold += static_cast<double>(by_threshold[lane]);
  }
  return sums;
}

Tensor sign_codes_cpu(const Tensor& input, const Tensor& scale, const Tensor& threshold, Dtype dtype) {
  check_sign_codes(input, scale, threshold);
  check_scale_values(scale, "scale");
  const Tensor output = empty_like_kept(input, code_dtype(input, dtype));
  const Tensor x = readable(input, output), y = writable(output);
  const float one_threshold = threshold.item<float>();
  for_each_piece(x, [&](int64_t, int64_t first, int64_t count) {
    alignas(64) float buffer[kPiece];
    alignas(64) float signs[kPiece];
    piece_signs(read_floats(x, first, count, buffer), count, one_threshold, signs);
    write_floats(signs, first, count, y);
  });
  return y.is_same(output) ? output : output.copy_(y);
}

Gradients sign_codes_backward_cpu(const Tensor& grad, const Tensor& input, const Tensor& scale,
                                  const Tensor& threshold) {
  check_sign_codes_backward(grad, input, scale, threshold);
  check_scale_values(scale, "scale");
  const Tensor grad_input = empty_like_kept(input, input.scalar_type());
  const Tensor dy = readable(grad, grad_input), x = readable(input, grad_input), dx = writable(grad_input);
  const float one_scale = scale.item<float>(), one_threshold = threshold.item<float>();
  std::vector<Sums> of_pieces(static_cast<size_t>((x.numel() + kPiece - 1) / kPiece));
  for_each_piece(x, [&](int64_t piece, int64_t first, int64_t count) {
    alignas(64) float dy_buffer[kPiece];
    alignas(64) float x_buffer[kPiece];
    alignas(64) float result[kPiece];
    of_pieces[static_cast<size_t>(piece)] =
        piece_gradients(read_floats(dy, first, count, dy_buffer), read_floats(x, first, count, x_buffer),
                        count, one_scale, one_threshold, result);
    write_floats(result, first, count, dx);
  });
  if (!dx.is_same(grad_input)) grad_input.copy_(dx);
  Sums total;
  for (const Sums& sums : of_pieces) {  // in order: the same bits on any number of threads
    total.scale += sums.scale;
    total.threshold += sums.threshold;
  }
  return {grad_input, at::empty_like(scale).fill_(total.scale),
          at::empty_like(threshold).fill_(-total.threshold)};
}

// ---- gradient ----

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

using SignCodes = Tensor(const Tensor&, const Tensor&, const Tensor&, Dtype);
using SignCodesBackward = Gradients(const Tensor&, const Tensor&, const Tensor&, const Tensor&);

class SignCodesFunction : public torch::autograd::Function<SignCodesFunction> {
 public:
  static Variable forward(AutogradContext* ctx, const Variable& input, const Variable& scale,
                          const Variable& threshold, Dtype dtype) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    ctx->save_for_backward({input, scale, threshold});
    static const auto sign_codes = find_operator<SignCodes>("ptqx::sign_codes");
    return sign_codes.call(input, scale, threshold, dtype);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static const auto backward = find_operator<SignCodesBackward>("ptqx::sign_codes_backward");
    const variable_list saved = ctx->get_saved_variables();
    auto [input, scale, threshold] = backward.call(grads[0], saved[0], saved[1], saved[2]);
    return {input, scale, threshold, Variable()};
  }
};

Tensor sign_codes_autograd(const Tensor& input, const Tensor& scale, const Tensor& threshold, Dtype dtype) {
  return SignCodesFunction::apply(input, scale, threshold, dtype);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(ptqx, m) {
  // sign(input - threshold), 1 at the threshold, per tensor, in input's type or another one.
  m.def("sign_codes(Tensor input, Tensor scale, Tensor threshold, ScalarType? dtype=None) -> Tensor",
        kExactStrides);
  m.def(
      "sign_codes_backward(Tensor grad, Tensor input, Tensor scale, Tensor threshold) "
      "-> (Tensor, Tensor, Tensor)",
      kExactStrides);
}
TORCH_LIBRARY_IMPL(ptqx, Meta, m) {
  m.impl("sign_codes", sign_codes_meta);
  m.impl("sign_codes_backward", sign_codes_backward_meta);
}
TORCH_LIBRARY_IMPL(ptqx, CPU, m) {
  m.impl("sign_codes", sign_codes_cpu);
  m.impl("sign_codes_backward", sign_codes_backward_cpu);
}
TORCH_LIBRARY_IMPL(ptqx, CompositeExplicitAutograd, m) {
  m.impl("sign_codes", sign_codes_composite);
  m.impl("sign_codes_backward", sign_codes_backward_composite);
}
TORCH_LIBRARY_IMPL(ptqx, Autograd, m) {
  m.impl("sign_codes", sign_codes_autograd);
  m.impl("sign_codes_backward", no_derivative());
}

}  // namespace ptqx::ops
