"""Capture of padding: with zeros, or with parts of the image itself."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .call import REQUIRED, Call, Ref, Unsupported, captures, pair
from .movement import cropped


@captures(F.pad, pad=REQUIRED, mode="constant", value=None)
def _pad(call: Call, pad: Any, mode: str, value: Any) -> Ref:
    if mode == "constant" and value == -math.inf and _only_maxima_read(call, list(pad)):
        return padded_with_itself(call, [*pad, 0, 0][:4], "replicate")
    if mode in ("reflect", "replicate", "circular"):
        return padded_with_itself(call, list(pad), mode)
    if mode != "constant" or value not in (None, 0, 0.0):
        raise Unsupported(f"mode {mode!r} with value {value}; only zeros have an integer form")
    left, right, top, bottom, before, after, *rest = list(pad) + [0] * (8 - len(pad))
    shape = call.input_shape()
    if any(rest) or len(shape) != 3:
        raise Unsupported(f"padding {list(pad)} of {list(shape)} a sample; only of images")
    kept = [
        (max(-begin, 0), size + min(end, 0))
        for size, begin, end in zip(shape, (before, top, left), (after, bottom, right), strict=True)
    ]
    if any(begin >= end for begin, end in kept):
        raise Unsupported(f"padding {list(pad)} leaves nothing of {list(shape)} a sample")
    result = cropped(call, call.input, [kept[0], (0, shape[1]), (0, shape[2])])
    if any((left, right, top, bottom)):
        padded = (kept[0][1] - kept[0][0], shape[1] + top + bottom, shape[2] + left + right)
        result = call.node("pad", [result], shape=padded, padding=[top, left, bottom, right])
    before, after = max(before, 0), max(after, 0)
    return _pad_channels(call, result, before, after) if before or after else result


def _only_maxima_read(call: Call, pad: list[int]) -> bool:
    """Whether windows, larger than the padding, over which maxima are taken are all that reads the result:
    then padding that repeats the image is as good as -inf."""
    windows = [
        pair(user.args[1] if len(user.args) > 1 else user.kwargs.get("kernel_size", 0))
        for user in call.fx_node.users
        if user.target in (F.max_pool2d, torch.max_pool2d)
    ]
    return len(windows) == len(call.fx_node.users) and all(max(pad) < min(window) for window in windows)


def padded_with_itself(call: Call, pad: list[int], mode: str) -> Ref:
    """`pad` is [left, right, top, bottom], or of a sequence [left, right]."""
    shape = call.input_shape()
    left, right, top, bottom = (*pad, 0, 0)[:4] if len(pad) in (2, 4) else (-1, 0, 0, 0)
    if len(shape) not in (2, 3) or len(pad) != 2 * (len(shape) - 1) or min(left, right, top, bottom) < 0:
        raise Unsupported(f"mode {mode!r}, padding {pad} of {list(shape)} a sample")
    sides = [top, left, bottom, right]
    return call.on_image("pad", suffix=".padding", padding=sides, mode=mode)


def image_padded_with_itself(call: Call, image: Ref, sides: list[int], mode: str) -> Ref:
    channels, height, width = call.input_shape(image)
    top, left, bottom, right = sides
    padded = (channels, height + top + bottom, width + left + right)
    return call.node("pad", [image], shape=padded, suffix=".padding", padding=sides, mode=mode)


@captures(nn.ReflectionPad2d, nn.ReflectionPad1d, padding=REQUIRED)
def _reflection_pad(call: Call, padding: Any) -> Ref:
    return padded_with_itself(call, list(padding), "reflect")


@captures(nn.ReplicationPad2d, nn.ReplicationPad1d, padding=REQUIRED)
def _replication_pad(call: Call, padding: Any) -> Ref:
    return padded_with_itself(call, list(padding), "replicate")


@captures(nn.CircularPad2d, nn.CircularPad1d, padding=REQUIRED)
def _circular_pad(call: Call, padding: Any) -> Ref:
    return padded_with_itself(call, list(padding), "circular")


def _pad_channels(call: Call, source: Ref, before: int, after: int) -> Ref:
    """Concatenate with channels that are zero: channels of the input itself, through the table of x -> 0 *
    x."""
    channels, height, width = call.input_shape(source)
    parts: list[Ref] = [source]
    for count, in_front in ((before, True), (after, False)):
        while count:
            share = min(count, channels)
            shape = (share, height, width)
            part = call.node("slice", [source], shape=shape, suffix=".slice", dim=1, start=0, end=share)
            zero = call.node("unary", [part], shape=shape, suffix=".zero", function="mul_scalar", args=[0.0])
            parts.insert(0, zero) if in_front else parts.append(zero)
            count -= share
    return call.node("cat", parts, suffix=".cat", dim=1)


@captures(nn.ZeroPad2d, nn.ConstantPad2d, padding=REQUIRED, value=None)
def _constant_pad2d(call: Call, padding: Any, value: Any) -> Ref:
    return _pad(call, list(padding), "constant", value)
