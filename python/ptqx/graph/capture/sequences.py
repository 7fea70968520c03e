"""Capture of layers on sequences [N, C, L], as layers on images of one row."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .call import REQUIRED, Call, Ref, Unsupported, captures, parameter_paths
from .layers import own_params
from .padding import image_padded_with_itself


def _sequence(call: Call, op: str, image: Ref, params: dict[str, str] | None = None, **attrs: Any) -> Ref:
    """A node on the image, and its result as [C, L] a sample."""
    channels, length = call.output_shape[1:]
    result = call.node(op, [image], params, shape=(channels, 1, length), **attrs)
    return call.node("reshape", [result], suffix=".sequence", sample_shape=[channels, length])


def _number(value: Any) -> int:
    return int(value) if isinstance(value, int) else int(value[0])


@captures(nn.Conv1d, stride=1, padding=0, dilation=1, groups=1, padding_mode="zeros")
def _conv1d_module(
    call: Call, stride: Any, padding: Any, dilation: Any, groups: int, padding_mode: str
) -> Ref:
    module: Any = call.module
    image = call.one_row()
    if padding_mode != "zeros":
        left, right = module._reversed_padding_repeated_twice
        image = image_padded_with_itself(call, image, [0, left, 0, right], padding_mode)
        padding = 0
    return _conv1d(call, image, own_params(call), module.kernel_size[0], stride, padding, dilation, groups)


@captures(F.conv1d, torch.conv1d, weight=REQUIRED, bias=None, stride=1, padding=0, dilation=1, groups=1)
def _conv1d_function(
    call: Call, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Ref:
    params = parameter_paths(weight=weight, bias=bias)
    kernel = weight.value.shape[2]
    return _conv1d(call, call.one_row(), params, kernel, stride, padding, dilation, groups)


def _conv1d(
    call: Call,
    image: Ref,
    params: dict[str, str],
    kernel: int,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Ref:
    reach = _number(dilation) * (kernel - 1)
    if isinstance(padding, str):
        before, after = (reach // 2, reach - reach // 2) if padding == "same" else (0, 0)
    else:
        before = after = _number(padding)
    return _sequence(
        call,
        "conv2d",
        image,
        params,
        kernel_size=[1, kernel],
        stride=[1, _number(stride)],
        padding=[0, before, 0, after],
        dilation=[1, _number(dilation)],
        groups=int(groups),
    )


@captures(
    nn.MaxPool1d,
    F.max_pool1d,
    torch.max_pool1d,
    kernel_size=REQUIRED,
    stride=None,
    padding=0,
    dilation=1,
    ceil_mode=False,
    return_indices=False,
)
def _max_pool1d(
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
    return _sequence(
        call,
        "max_pool2d",
        call.one_row(),
        kernel_size=[1, _number(kernel_size)],
        stride=[1, _number(stride or kernel_size)],
        padding=[0, _number(padding)],
        dilation=[1, _number(dilation)],
        ceil_mode=bool(ceil_mode),
    )


@captures(
    nn.AvgPool1d,
    F.avg_pool1d,
    torch.avg_pool1d,
    kernel_size=REQUIRED,
    stride=None,
    padding=0,
    ceil_mode=False,
    count_include_pad=True,
)
def _avg_pool1d(
    call: Call, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, count_include_pad: bool
) -> Ref:
    return _sequence(
        call,
        "avg_pool2d",
        call.one_row(),
        kernel_size=[1, _number(kernel_size)],
        stride=[1, _number(stride or kernel_size)],
        padding=[0, _number(padding)],
        ceil_mode=bool(ceil_mode),
        count_include_pad=bool(count_include_pad),
        divisor=0,
    )


@captures(nn.AdaptiveAvgPool1d, F.adaptive_avg_pool1d, torch.adaptive_avg_pool1d, output_size=REQUIRED)
def _adaptive_avg_pool1d(call: Call, output_size: Any) -> Ref:
    return _sequence(call, "adaptive_avg_pool2d", call.one_row(), output_size=[1, call.output_shape[2]])
