"""Capture of pooling and means."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .call import REQUIRED, Call, Ref, Several, Unsupported, captures
from .tokens import as_row


@captures(
    *(nn.MaxPool2d, F.max_pool2d, torch.max_pool2d, nn.MaxPool1d, F.max_pool1d, torch.max_pool1d),
    kernel_size=REQUIRED,
    stride=None,
    padding=0,
    dilation=1,
    ceil_mode=False,
    return_indices=False,
)
def _max_pool(
    call: Call,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    return_indices: bool,
) -> Ref:
    if return_indices:
        raise Unsupported("return_indices=True")
    return call.on_image(
        "max_pool2d",
        kernel_size=call.pair(kernel_size, 1),
        stride=call.pair(stride or kernel_size, 1),
        padding=call.pair(padding, 0),
        dilation=call.pair(dilation, 1),
        ceil_mode=bool(ceil_mode),
    )


@captures(
    *(nn.AvgPool2d, F.avg_pool2d, nn.AvgPool1d, F.avg_pool1d, torch.avg_pool1d),
    kernel_size=REQUIRED,
    stride=None,
    padding=0,
    ceil_mode=False,
    count_include_pad=True,
    divisor_override=None,
)
def _avg_pool(
    call: Call,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Ref:
    window, steps = call.pair(kernel_size, 1), call.pair(stride or kernel_size, 1)
    borders = call.pair(padding, 0)
    if borders == [0, 0] and not divisor_override:
        # With ceil_mode a window may be larger than the image, whose part of it counts.
        size = (1, *call.input_shape()[1:])[-2:]
        window = [min(extent, most) for extent, most in zip(window, size, strict=True)]
    return call.on_image(
        "avg_pool2d",
        kernel_size=window,
        stride=steps,
        padding=borders,
        ceil_mode=bool(ceil_mode),
        count_include_pad=bool(count_include_pad),
        divisor=int(divisor_override or 0),
    )


@captures(
    *(nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d),
    *(nn.AdaptiveAvgPool1d, F.adaptive_avg_pool1d, torch.adaptive_avg_pool1d),
    output_size=REQUIRED,
)
def _adaptive_avg_pool(call: Call, output_size: Any) -> Ref:
    if call.output_shape[2:] == call.input_shape()[1:]:
        return call.input
    return call.on_image("adaptive_avg_pool2d", output_size=call.pair(call.output_shape[2:], 1))


@captures(nn.AdaptiveMaxPool2d, F.adaptive_max_pool2d, output_size=REQUIRED, return_indices=False)
def _adaptive_max_pool2d(call: Call, output_size: Any, return_indices: bool) -> Ref:
    if return_indices:
        raise Unsupported("return_indices=True")
    return _max_over_parts(call, list(call.output_shape[2:]))


@captures(torch.amax, "amax", dim=(), keepdim=False)
def _amax(call: Call, dim: Any, keepdim: bool) -> Ref:
    rank, dims = _dims(call, dim)
    if rank == 4 and dims == [1]:
        return _over_channels(call, "max_pool2d", keepdim, dilation=[1, 1])
    if rank != 4 or dims != [2, 3]:
        raise Unsupported(
            f"over dimensions {dims}; only over channels, or over height and width, has an integer form"
        )
    pooled = _max_over_parts(call, [1, 1])
    return pooled if keepdim else call.node("flatten", [pooled], suffix=".flatten", start_dim=1)


@captures(torch.max, "max", dim=REQUIRED, keepdim=False)
def _max(call: Call, dim: Any, keepdim: bool) -> Several:
    """Values and indices, if nobody reads the indices."""
    if not isinstance(dim, int):
        raise Unsupported("only over one dimension")
    if any(user.users and user.args[1] in (1, -1, "indices") for user in call.fx_node.users):
        raise Unsupported("indices have no integer form")
    values = _amax(call, dim, keepdim)
    return Several(lambda item: values, tuple, (0, 1))


def _dims(call: Call, dim: Any) -> tuple[int, list[int]]:
    """The rank of the input, and the dimensions that `dim` means, the batch being 0."""
    rank = len(call.input_shape()) + 1
    return rank, sorted(d % rank for d in ([dim] if isinstance(dim, int) else dim or range(rank)))


def _over_channels(call: Call, op: str, keepdim: bool, **attrs: Any) -> Ref:
    """A pool whose window is all channels of a pixel."""
    channels, height, width = call.input_shape()
    last = call.node("permute", shape=(height, width, channels), suffix=".channels_last", dims=[0, 2, 3, 1])
    window = [1, channels]
    pooled = call.node(
        *(op, [last]),
        shape=(height, width, 1),
        kernel_size=window,
        stride=window,
        padding=[0, 0],
        ceil_mode=False,
        **attrs,
    )
    shape = (1, height, width) if keepdim else (height, width)
    return call.node("reshape", [pooled], shape=shape, suffix=".plane", sample_shape=list(shape))


def _flattened_image(call: Call) -> Ref | None:
    """The image whose rows and columns the input has as one dimension."""
    node = call.graph.nodes.get(call.input.name)
    if node is None or node.op != "reshape":
        return None
    source = call.graph.shape(node.inputs[0])
    is_image = len(source) == 3 and node.shape == (source[0], source[1] * source[2])
    return Ref(node.inputs[0]) if is_image else None


def _max_over_parts(call: Call, parts: list[int]) -> Ref:
    """The image in `parts` rows and columns of equal windows."""
    channels, *size = call.input_shape()
    if any(extent % count for extent, count in zip(size, parts, strict=True)):
        raise Unsupported(f"windows of {size} in {parts} parts are not equal")
    window = [extent // count for extent, count in zip(size, parts, strict=True)]
    shape = (channels, *parts)
    still: Any = {"padding": [0, 0], "dilation": [1, 1], "ceil_mode": False}
    return call.node("max_pool2d", shape=shape, kernel_size=window, stride=window, **still)


@captures(torch.mean, "mean", dim=None, keepdim=False)
def _mean(call: Call, dim: Any, keepdim: bool) -> Ref:
    rank, dims = _dims(call, dim)
    if rank == 4 and dims == [1]:
        return _over_channels(call, "avg_pool2d", keepdim, count_include_pad=True, divisor=0)
    if rank == 3 and dims == [2] and not keepdim:
        return _global_average(call, _flattened_image(call) or call.as_image(), keepdim)
    if rank == 3 and dims == [1] and not keepdim:  # of tokens
        return _global_average(call, as_row(call, call.input), keepdim)
    if rank == 4 and dims == [1, 2] and not keepdim:  # of [N, H, W, C]
        height, width, channels = call.input_shape()
        shape = (channels, height, width)
        image = call.node("permute", shape=shape, suffix=".channels_first", dims=[0, 3, 1, 2])
        return _global_average(call, image, keepdim)
    if rank != 4 or dims != [2, 3]:
        raise Unsupported(
            f"over dimensions {dims}; only over channels, or over height and width, has an integer form"
        )
    return _global_average(call, call.input, keepdim)


def _global_average(call: Call, image: Ref, keepdim: bool) -> Ref:
    shape = (call.input_shape(image)[0], 1, 1)
    pooled = call.node("adaptive_avg_pool2d", [image], shape=shape, output_size=[1, 1])
    return pooled if keepdim else call.node("flatten", [pooled], suffix=".flatten", start_dim=1)
