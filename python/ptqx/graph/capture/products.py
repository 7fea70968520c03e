"""Capture of products of two results of the network, and of softmax: attention (Vaswani et al.,
arXiv:1706.03762) over pixels or tokens, and the end of classifiers."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..channel_order import ROWS_FIRST, TO_FIRST, TO_LAST
from .call import REQUIRED, Call, Ref, Unsupported, captures
from .stacks import softmax_of_two
from .tokens import as_row, from_row


@captures(torch.matmul, torch.bmm, operator.matmul, "matmul", "bmm", "__matmul__")
def _matmul(call: Call) -> Ref:
    operands = (*call.args, *(call.kwargs[k] for k in ("input", "other", "mat2") if k in call.kwargs))
    if len(operands) != 2 or not all(isinstance(o, Ref) for o in operands):
        raise Unsupported("an operand is a parameter, not a result of the network")
    left, right = operands
    a, b = call.input_shape(left), call.input_shape(right)
    if len(a) != len(b) or len(a) not in (2, 3) or a[:-2] != b[:-2]:
        raise Unsupported(f"operands of shapes {list(a)} and {list(b)} a sample")
    return _product(call, left, _with_rows_first(call, right))


def _product(call: Call, left: Ref, right: Ref, factor: float = 1.0) -> Ref:
    """[rows, m, k] or [m, k] times `right`, an image [k, rows, n], as [rows, m, n] or [m, n]."""
    a, (_, rows, columns) = call.input_shape(left), call.input_shape(right)
    shape = (columns, rows, a[-2])
    first = _channels_from(call, left, len(a) - 1)
    return _channels_to(call, call.node("matmul", [first, right], shape=shape, factor=factor), len(a) - 1)


def _with_rows_first(call: Call, ref: Ref) -> Ref:
    """[rows, k, n] or [k, n] as an image [k, rows, n]."""
    if len(call.input_shape(ref)) == 2:
        return _row_image(call, ref)
    return permuted(call, ref, ROWS_FIRST)


def _channels_from(call: Call, ref: Ref, axis: int) -> Ref:
    """A value as an image whose channels are its dimension `axis` of a sample."""
    if len(call.input_shape(ref)) == 2:
        return as_row(call, ref) if axis == 1 else _row_image(call, ref)
    return ref if axis == 0 else permuted(call, ref, ROWS_FIRST if axis == 1 else TO_FIRST)


def _channels_to(call: Call, image: Ref, axis: int, rank: int | None = None) -> Ref:
    """The inverse, for a value of `rank` dimensions a sample."""
    rank = axis + 1 if rank is None else rank
    if rank == 2:
        channels, _, length = call.input_shape(image)
        return from_row(call, image) if axis == 1 else _reshaped(call, image, (channels, length))
    return image if axis == 0 else permuted(call, image, ROWS_FIRST if axis == 1 else TO_LAST)


def _row_image(call: Call, ref: Ref) -> Ref:
    channels, length = call.input_shape(ref)
    return _reshaped(call, ref, (channels, 1, length))


def _reshaped(call: Call, ref: Ref, shape: tuple[int, ...]) -> Ref:
    return call.node("reshape", [ref], shape=shape, suffix=".reshape", sample_shape=list(shape))


def permuted(call: Call, ref: Ref, dims: list[int]) -> Ref:
    """Of an image."""
    before = call.input_shape(ref)
    shape = tuple(before[d - 1] for d in dims[1:])
    return call.node("permute", [ref], shape=shape, suffix=".permute", dims=dims)


@captures(
    F.scaled_dot_product_attention, key=REQUIRED, value=REQUIRED, attn_mask=None, dropout_p=0.0,
    is_causal=False, scale=None, enable_gqa=False,
)  # fmt: skip
def _attention(
    call: Call,
    key: Any,
    value: Any,
    attn_mask: Any,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> Ref:
    """softmax(query key^T * scale) value, of [N, heads, tokens, channels]."""
    if attn_mask is not None or is_causal or enable_gqa:
        raise Unsupported("a mask, or groups of queries")
    refs = (call.input, key, value)
    if not all(isinstance(ref, Ref) and len(call.input_shape(ref)) in (2, 3) for ref in refs):
        raise Unsupported("only of [heads, tokens, channels] or [tokens, channels] a sample")
    shapes = [call.input_shape(ref) for ref in refs]
    if len({(len(shape), *shape[:-2]) for shape in shapes}) != 1:
        raise Unsupported(f"operands of shapes {', '.join(str(list(shape)) for shape in shapes)} a sample")
    rank, channels = len(shapes[0]), shapes[0][-1]
    factor = 1.0 / math.sqrt(channels) if scale is None else float(scale)
    scores = _product(call, call.input, _channels_from(call, key, rank - 1), factor)
    weights = _softmax_over(call, scores, rank, log=False)
    return _product(call, weights, _with_rows_first(call, value))


@captures(nn.Softmax, F.softmax, torch.softmax, "softmax", dim=None)
def _softmax(call: Call, dim: int | None) -> Ref:
    return _softmax_of(call, dim, log=False)


@captures(nn.LogSoftmax, F.log_softmax, torch.log_softmax, "log_softmax", dim=None)
def _log_softmax(call: Call, dim: int | None) -> Ref:
    return _softmax_of(call, dim, log=True)


def _softmax_of(call: Call, dim: int | None, log: bool) -> Ref:
    shape = call.input_shape()
    axis = 1 if dim is None and len(shape) == 1 else 0 if dim is None else dim % (len(shape) + 1)
    if axis == 0 or len(shape) > 3:
        raise Unsupported(f"over dim={dim} of {list(shape)} a sample")
    if len(shape) == 3 and shape[0] == 2 and axis == 1 and not log:
        half = (1, *shape[1:])
        halves = [call.node("slice", shape=half, suffix=".part", dim=1, start=i, end=i + 1) for i in range(2)]
        return call.node("cat", softmax_of_two(call, *halves), suffix=".cat", dim=1)
    return _softmax_over(call, call.input, axis, log)


def _softmax_over(call: Call, ref: Ref, dim: int, log: bool) -> Ref:
    rank = len(call.input_shape(ref))
    if rank == 1:
        return call.node("softmax", [ref], log=log)
    image = _channels_from(call, ref, dim - 1)
    shares = call.node("softmax", [image], shape=call.input_shape(image), log=log)
    return _channels_to(call, shares, dim - 1, rank)
