"""Capture of pooling and means."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .call import REQUIRED, Call, Ref, Unsupported, captures, pair


@captures(
    nn.MaxPool2d,
    F.max_pool2d,
    torch.max_pool2d,
    kernel_size=REQUIRED,
    stride=None,
    padding=0,
    dilation=1,
    ceil_mode=False,
    return_indices=False,
)
def _max_pool2d(
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
    return call.node(
        "max_pool2d",
        kernel_size=pair(kernel_size),
        stride=pair(stride or kernel_size),
        padding=pair(padding),
        dilation=pair(dilation),
        ceil_mode=bool(ceil_mode),
    )


@captures(
    nn.AvgPool2d,
    F.avg_pool2d,
    kernel_size=REQUIRED,
    stride=None,
    padding=0,
    ceil_mode=False,
    count_include_pad=True,
    divisor_override=None,
)
def _avg_pool2d(
    call: Call,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Ref:
    return call.node(
        "avg_pool2d",
        kernel_size=pair(kernel_size),
        stride=pair(stride or kernel_size),
        padding=pair(padding),
        ceil_mode=bool(ceil_mode),
        count_include_pad=bool(count_include_pad),
        divisor=int(divisor_override or 0),
    )


@captures(nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d, output_size=REQUIRED)
def _adaptive_avg_pool2d(call: Call, output_size: Any) -> Ref:
    if call.output_shape[2:] == call.input_shape()[1:]:
        return call.input
    return call.node("adaptive_avg_pool2d", output_size=list(call.output_shape[2:]))


@captures(torch.mean, "mean", dim=None, keepdim=False)
def _mean(call: Call, dim: Any, keepdim: bool) -> Ref:
    rank = len(call.input_shape()) + 1
    dims = sorted(d % rank for d in ([dim] if isinstance(dim, int) else dim or range(rank)))
    if rank != 4 or dims != [2, 3]:
        raise Unsupported(f"over dimensions {dims}; only the mean over height and width has an integer form")
    channels = call.input_shape()[0]
    pooled = call.node("adaptive_avg_pool2d", shape=(channels, 1, 1), output_size=[1, 1])
    return pooled if keepdim else call.node("flatten", [pooled], suffix=".flatten", start_dim=1)
