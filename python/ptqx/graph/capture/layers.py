"""Capture of layers with weights: convolution, linear, normalization."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..channel_order import of_one_pixel
from .call import REQUIRED, Call, Ref, Unsupported, captures, pair, parameter_paths
from .padding import image_padded_with_itself
from .tokens import on_tokens


@captures(nn.Conv2d, nn.Conv1d, stride=1, padding=0, dilation=1, groups=1, padding_mode="zeros")
def _conv_module(call: Call, stride: Any, padding: Any, dilation: Any, groups: int, padding_mode: str) -> Ref:
    module: Any = call.module
    source = call.as_image()
    if padding_mode != "zeros":
        left, right, top, bottom = (*module._reversed_padding_repeated_twice, 0, 0)[:4]
        source = image_padded_with_itself(call, source, [top, left, bottom, right], padding_mode)
        padding = 0
    return _conv(call, source, own_params(call), module.kernel_size, stride, padding, dilation, groups)


@captures(
    *(F.conv2d, torch.conv2d, F.conv1d, torch.conv1d),
    weight=REQUIRED,
    bias=None,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
)
def _conv_function(
    call: Call, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Ref:
    params = parameter_paths(weight=weight, bias=bias)
    return _conv(call, call.as_image(), params, weight.value.shape[2:], stride, padding, dilation, groups)


def _conv(
    call: Call,
    source: Ref,
    params: dict[str, str],
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Ref:
    kernel, spread = call.pair(kernel_size, 1), call.pair(dilation, 1)
    return call.on_image(
        "conv2d",
        source,
        params,
        kernel_size=kernel,
        stride=call.pair(stride, 1),
        padding=_four_sides(call, padding, kernel, spread),
        dilation=spread,
        groups=int(groups),
    )


@captures(nn.ConvTranspose2d, stride=1, padding=0, dilation=1, groups=1)
def _conv_transpose2d_module(call: Call, stride: Any, padding: Any, dilation: Any, groups: int) -> Ref:
    kernel = pair(call.module.kernel_size)  # type: ignore[union-attr]
    return _conv_transpose2d(call, own_params(call), kernel, stride, padding, dilation, groups)


@captures(
    F.conv_transpose2d,
    torch.conv_transpose2d,
    weight=REQUIRED,
    bias=None,
    stride=1,
    padding=0,
    output_padding=0,
    groups=1,
    dilation=1,
)
def _conv_transpose2d_function(
    call: Call,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Ref:
    params = parameter_paths(weight=weight, bias=bias)
    return _conv_transpose2d(call, params, list(weight.value.shape[2:]), stride, padding, dilation, groups)


def _conv_transpose2d(
    call: Call,
    params: dict[str, str],
    kernel: list[int],
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Ref:
    """As the convolution with stride 1 that it is, of the image with zeros between its pixels (Dumoulin and
    Visin, arXiv:1603.07285, section 4). What the output's size adds (`output_padding`) is padding there."""
    if len(call.input_shape()) != 3:
        raise Unsupported(f"input of {len(call.input_shape()) + 1} dimensions, expected [N, C, H, W]")
    channels, *sizes = call.input_shape()
    factor, spread = pair(stride), pair(dilation)
    reach = [d * (k - 1) for d, k in zip(spread, kernel, strict=True)]
    before = [r - p for r, p in zip(reach, pair(padding), strict=True)]
    sizes = [(size - 1) * f + 1 for size, f in zip(sizes, factor, strict=True)]
    after = [
        out - size + r - b
        for out, size, r, b in zip(call.output_shape[2:], sizes, reach, before, strict=True)
    ]
    if min(before + after) < 0:
        raise Unsupported(f"padding {padding}, more than dilation * (kernel_size - 1)")
    source = call.input
    if factor != [1, 1]:
        shape = (channels, *sizes)
        source = call.node("upsample_zeros2d", shape=shape, suffix=".zeros", scale_factor=factor)
    return call.node(
        "conv2d",
        [source],
        params,
        kernel_size=kernel,
        stride=[1, 1],
        padding=before + after,
        dilation=spread,
        groups=int(groups),
        transposed=True,
    )


def _four_sides(call: Call, padding: Any, kernel: list[int], dilation: list[int]) -> list[int]:
    """[top, left, bottom, right]; "same" puts the odd one at the bottom and right, as PyTorch does."""
    if padding == "valid":
        return [0, 0, 0, 0]
    if padding == "same":
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        before = [t // 2 for t in total]
        return before + [t - b for t, b in zip(total, before, strict=True)]
    return call.pair(padding, 0) * 2


@captures(nn.Linear)
def _linear_module(call: Call) -> Ref:
    return _linear(call, own_params(call))


@captures(F.linear, weight=REQUIRED, bias=None)
def _linear_function(call: Call, weight: Any, bias: Any) -> Ref:
    return _linear(call, parameter_paths(weight=weight, bias=bias))


def _linear(call: Call, params: dict[str, str]) -> Ref:
    if len(call.input_shape()) != 2 or not call.batch_first:
        return call.node("linear", params=params)
    return on_tokens(call, "conv2d", call.input, params, call.output_shape[-1], **of_one_pixel(groups=1))


@captures(
    nn.BatchNorm2d,
    nn.BatchNorm1d,
    nn.SyncBatchNorm,
    eps=1e-5,
    running_mean=None,
    running_var=None,
    affine=True,
)
def _batch_norm_module(call: Call, eps: float, running_mean: Any, running_var: Any, affine: bool) -> Ref:
    if running_mean is None:
        raise Unsupported("no running statistics")
    roles = ["running_mean", "running_var"] + (["weight", "bias"] if affine else [])
    params = {f"bn_{role}": f"{call.path}.{role}" for role in roles}
    return call.node("batch_norm", params=params, bn_eps=eps)


@captures(
    F.batch_norm,
    running_mean=REQUIRED,
    running_var=REQUIRED,
    weight=None,
    bias=None,
    training=False,
    momentum=0.1,
    eps=1e-5,
)
def _batch_norm_function(
    call: Call,
    running_mean: Any,
    running_var: Any,
    weight: Any,
    bias: Any,
    training: bool,
    momentum: float,
    eps: float,
) -> Ref:
    if training or running_mean is None:
        raise Unsupported("it uses the statistics of the batch in eval()")
    params = parameter_paths(
        bn_running_mean=running_mean, bn_running_var=running_var, bn_weight=weight, bn_bias=bias
    )
    return call.node("batch_norm", params=params, bn_eps=eps)


@captures(nn.LayerNorm, normalized_shape=REQUIRED, eps=1e-5)
def _layer_norm_module(call: Call, normalized_shape: Any, eps: float) -> Ref:
    return _layer_norm(call, own_params(call), normalized_shape, eps)


@captures(F.layer_norm, torch.layer_norm, normalized_shape=REQUIRED, weight=None, bias=None, eps=1e-5)
def _layer_norm_function(call: Call, normalized_shape: Any, weight: Any, bias: Any, eps: float) -> Ref:
    return _layer_norm(call, parameter_paths(weight=weight, bias=bias), normalized_shape, eps)


def _layer_norm(call: Call, params: dict[str, str], normalized_shape: Any, eps: float) -> Ref:
    """Over the last dimension: of [N, C], or of [N, H, W, C], which `channels_first` must turn."""
    shape = call.input_shape()
    if len(normalized_shape) != 1 or len(shape) > 3:
        raise Unsupported(f"over {list(normalized_shape)} of {list(shape)}; only over channels")
    if not eps > 0:
        raise Unsupported(f"eps {eps}; it must be positive")
    if len(shape) == 2:
        attrs: dict[str, Any] = {"eps": float(eps), "channels_last": False}
        return on_tokens(call, "layer_norm", call.input, params, shape[-1], **attrs)
    return call.node("layer_norm", params=params, eps=float(eps), channels_last=len(shape) == 3)


@captures(nn.GroupNorm, num_groups=REQUIRED, eps=1e-5)
def _group_norm_module(call: Call, num_groups: int, eps: float) -> Ref:
    return _group_norm(call, own_params(call), num_groups, eps)


@captures(F.group_norm, torch.group_norm, num_groups=REQUIRED, weight=None, bias=None, eps=1e-5)
def _group_norm_function(call: Call, num_groups: int, weight: Any, bias: Any, eps: float) -> Ref:
    return _group_norm(call, parameter_paths(weight=weight, bias=bias), num_groups, eps)


@captures(nn.InstanceNorm2d, eps=1e-5, running_mean=None)
def _instance_norm_module(call: Call, eps: float, running_mean: Any) -> Ref:
    params = own_params(call)
    if running_mean is None:
        return _group_norm(call, params, call.input_shape()[0], eps)
    roles = {role: f"{call.path}.{role}" for role in ("running_mean", "running_var")}
    bn = {f"bn_{role}": path for role, path in {**roles, **params}.items()}
    return call.node("batch_norm", params=bn, bn_eps=eps)


def _group_norm(call: Call, params: dict[str, str], groups: int, eps: float) -> Ref:
    call.require_images()
    if not eps > 0:
        raise Unsupported(f"eps {eps}; it must be positive")
    return call.node("group_norm", params=params, groups=int(groups), eps=float(eps))


def own_params(call: Call) -> dict[str, str]:
    """The layer's weight and bias.

    Raises:
        Unsupported: they are no parameters.
    """
    own = dict(call.module.named_parameters(recurse=False))  # type: ignore[union-attr]
    if getattr(call.module, "weight", None) is not None and "weight" not in own:
        raise Unsupported("its weight is computed from others; remove the reparametrization first")
    return {role: f"{call.path}.{role}" for role in ("weight", "bias") if role in own}
