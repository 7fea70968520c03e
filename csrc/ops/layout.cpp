#include "ops/layout.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <c10/core/WrapDimMinimal.h>

#include <algorithm>

#include "kernels/pointwise.h"
#include "ops/checks.h"
#include "ops/kept_memory.h"

namespace ptqx::ops {

c10::SymDimVector spatial_strides(c10::SymIntArrayRef sizes) {
  if (sizes.size() == 4) return {sizes[2] * sizes[3] * sizes[1], 1, sizes[3] * sizes[1], sizes[1]};
  c10::SymDimVector strides(sizes.size(), 1);
  for (size_t i = sizes.size(); i-- > 1;) strides[i - 1] = strides[i] * sizes[i];
  return strides;
}

Tensor empty_spatial(c10::SymIntArrayRef sizes, const Tensor& like, at::ScalarType dtype) {
  const c10::SymDimVector strides = spatial_strides(sizes);
  if (like.device().is_cpu()) {
    return empty_strided_kept(C10_AS_INTARRAYREF_SLOW(sizes), C10_AS_INTARRAYREF_SLOW(strides), dtype);
  }
  return at::empty_strided_symint(sizes, strides, like.options().dtype(dtype));
}

Tensor dense_spatial(const Tensor& tensor) {
  return tensor.contiguous(tensor.dim() == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
}

Tensor dense_floats(const Tensor& tensor) {
  const Tensor floats = tensor.to(at::kFloat);
  return floats.is_non_overlapping_and_dense() ? floats : floats.contiguous();
}

Tensor dense_codes(const Tensor& codes) {
  const Tensor dense = dense_spatial(codes);
  if (codes.scalar_type() == at::kByte) return dense;
  Tensor flipped = empty_spatial(codes.sym_sizes(), codes, at::kByte);
  kernels::flip_sign_u8(static_cast<const uint8_t*>(dense.const_data_ptr()), dense.numel(),
                        flipped.mutable_data_ptr<uint8_t>());
  return flipped;
}

Tensor with_slack(const Tensor& codes, int64_t bytes) {
  const auto end = static_cast<size_t>(codes.storage_offset() + codes.numel() + bytes);
  if (codes.storage().nbytes() >= end) return codes;
  Tensor roomy = at::empty({codes.numel() + bytes}, codes.options());
  std::copy_n(codes.const_data_ptr<uint8_t>(), codes.numel(), roomy.mutable_data_ptr<uint8_t>());
  return roomy;
}

void finish_codes(const Tensor& output) {
  if (output.scalar_type() != at::kChar) return;
  uint8_t* codes = static_cast<uint8_t*>(output.mutable_data_ptr());
  for (int64_t i = 0; i < output.numel(); ++i) codes[i] ^= 0x80;
}

void check_scale_shape(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t axis,
                       int64_t group_size) {
  check_dtype(scale, "scale", {at::kFloat});
  TORCH_CHECK_VALUE(group_size >= 0, "group_size must be at least 0, got ", group_size);
  const bool per_tensor = scale.sym_numel() == 1 && zero_point.sym_numel() == 1;
  TORCH_CHECK_VALUE(per_tensor || zero_point.sym_sizes() == scale.sym_sizes(),
                    "zero_point must have the shape of scale, ", scale.sym_sizes(), ", got ",
                    zero_point.sym_sizes());
  if (group_size > 0) {
    TORCH_CHECK_VALUE(input.dim() >= 2, "input must have at least 2 dimensions with group_size, got shape ",
                      input.sym_sizes());
    const c10::SymInt groups = (input.sym_size(1) + (group_size - 1)) / group_size;
    TORCH_CHECK_VALUE(
        scale.dim() == 2 && scale.sym_size(0) == input.sym_size(0) && scale.sym_size(1) == groups,
        "scale must have shape [", input.sym_size(0), ", ", groups, "] with group_size ", group_size,
        ", got ", scale.sym_sizes());
    return;
  }
  if (per_tensor) return;
  TORCH_CHECK_VALUE(-input.dim() <= axis && axis < input.dim(), "axis must lie in ", -input.dim(), "..",
                    input.dim() - 1, ", got ", axis);
  TORCH_CHECK_VALUE(scale.dim() == 1 && scale.sym_size(0) == input.sym_size(axis), "scale must have 1 or ",
                    input.sym_size(axis), " elements, the size of axis ", axis, ", got shape ",
                    scale.sym_sizes());
}

ScaleLayout scale_layout(const Tensor& tensor, const Tensor& scale, int64_t axis, int64_t group_size) {
  const int64_t elements = tensor.numel();
  if (elements == 0) return {.blocks = {1, 1, 0}};
  if (group_size > 0) {
    const int64_t groups = scale.size(1);
    const int64_t inner = elements / tensor.size(0) / tensor.size(1);
    const int64_t last = tensor.size(1) % group_size;
    if (last == 0) return {.blocks = {1, scale.numel(), group_size * inner}};
    return {.blocks = {1, groups, group_size * inner}, .rows = tensor.size(0), .tail = last * inner};
  }
  if (scale.numel() == 1) return {.blocks = {1, 1, elements}};
  axis = c10::maybe_wrap_dim(axis, tensor.dim());
  const int64_t channels = tensor.size(axis);
  int64_t inner = 1;
  for (int64_t d = 0; d < tensor.dim(); ++d) {
    if (tensor.stride(d) < tensor.stride(axis)) inner *= tensor.size(d);
  }
  return {.blocks = {elements / channels / inner, channels, inner}};
}

}  // namespace ptqx::ops
