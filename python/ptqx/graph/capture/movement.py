"""Capture of what moves values without changing them: shapes, slices, crops, padding, shuffles."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from .call import REQUIRED, Call, Ref, Several, Stack, Unsupported, captures, target_name
from .tokens import from_row


@captures(
    nn.Flatten, torch.flatten, "flatten", torch.reshape, "reshape", "view",
    torch.squeeze, "squeeze", torch.unsqueeze, "unsqueeze", nn.Unflatten, torch.unflatten, "unflatten",
)  # fmt: skip
def _reshape(call: Call) -> Ref | Stack:
    before, after = call.input_shape(), call.output_shape
    shuffle = _shuffle(call)
    if shuffle is not None:
        return shuffle
    if after[0] != _batch(call):
        raise Unsupported("the batch dimension does not stay the first")
    if len(before) == 3 and len(after) == 5 and after[3:] == before[1:]:
        return _split_channels(call, after[2])
    if before == after[1:]:
        return call.input
    if len(after) == 2:
        return call.node("flatten", start_dim=1)
    return call.node("reshape", sample_shape=list(after[1:]))


def _split_channels(call: Call, channels: int) -> Stack:
    starts = range(0, call.input_shape()[0], channels)
    return Stack(tuple(_along(call, 1, start, start + channels, ".part") for start in starts))


def _batch(call: Call) -> int:
    source = call.fx_node.all_input_nodes[0].meta["value"]
    return int(source.shape[0])


def _shuffle(call: Call) -> Ref | None:
    """view, permute or transpose, view: a shuffle of channels or of pixels. The last view sees it."""
    chain: list[fx.Node] = []
    node = call.fx_node
    while node.op in ("call_method", "call_function") and len(chain) < 4:
        chain.append(node)
        node = node.all_input_nodes[0] if node.all_input_nodes else node
    moved = [n for n in chain if n.target != "contiguous"]
    if len(moved) < 3 or not moved[2].all_input_nodes:
        return None
    last, permute, first = moved[:3]
    source = first.all_input_nodes[0]
    if not all(isinstance(n.meta["value"], Tensor) for n in (*moved[:3], source)):
        return None
    split = list(first.meta["value"].shape)
    order = _order(permute.target, permute.args[1:], len(split))
    before, after = list(source.meta["value"].shape), list(last.meta["value"].shape)
    if len(before) != 4 or len(after) != 4 or order is None:
        return None
    values = call.values[source]
    if order == [0, 2, 1, 3, 4] and before == after:
        return call.node("channel_shuffle", [values], groups=split[1])
    return _pixel_shuffle(call, values, order, split, before, after)


def _pixel_shuffle(
    call: Call, source: Ref, order: list[int], split: list[int], before: list[int], after: list[int]
) -> Ref | None:
    """Space to depth and depth to space, with the channels of one pixel, or those of all pixels that become
    one, side by side; square blocks."""
    if len(split) != 6:
        return None
    _, channels, height, width = before
    if order in ([0, 1, 3, 5, 2, 4], [0, 3, 5, 1, 2, 4]):
        r = split[3]
        down = [split[0], channels * r * r, height // r, width // r]
        if split[5] != r or split[1] != channels or after != down:
            return None
        side_by_side = call.node("pixel_unshuffle", [source], downscale_factor=r)
        return (
            side_by_side if order[1] == 1 else call.node("channel_shuffle", [side_by_side], groups=channels)
        )
    if order in ([0, 1, 4, 2, 5, 3], [0, 3, 4, 1, 5, 2]):
        r = split[2]
        block = split[2:4] if order[1] == 1 else split[1:3]
        up = [split[0], channels // (r * r), height * r, width * r]
        if block != [r, r] or after != up:
            return None
        if order[1] != 1:
            shape = (channels, height, width)
            source = call.node("channel_shuffle", [source], shape=shape, suffix=".channels", groups=r * r)
        return call.node("pixel_shuffle", [source], upscale_factor=r)
    return None


def _order(target: Any, dims: Any, rank: int) -> list[int] | None:
    """Of the dimensions after a permute or a transpose."""
    name = target_name(target)
    given = list(dims[0]) if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else list(dims)
    if name not in ("permute", "transpose") or not all(isinstance(d, int) for d in given):
        return None
    order = [d % rank for d in given]
    if name == "transpose":
        a, b = order
        order = list(range(rank))
        order[a], order[b] = b, a
    return order


@captures(nn.ChannelShuffle, F.channel_shuffle, torch.channel_shuffle, groups=REQUIRED)
def _channel_shuffle_function(call: Call, groups: int) -> Ref:
    return call.node("channel_shuffle", groups=int(groups))


@captures(torch.chunk, "chunk", chunks=REQUIRED, dim=0)
def _chunk(call: Call, chunks: int, dim: int) -> list[Ref]:
    return _slices(call, dim)


@captures(torch.split, "split", split_size_or_sections=REQUIRED, dim=0)
def _split(call: Call, split_size_or_sections: Any, dim: int) -> list[Ref]:
    return _slices(call, dim)


def _slices(call: Call, dim: int) -> list[Ref]:
    parts = call.fx_node.meta["value"]
    axis = dim % parts[0].dim()
    refs, start = [], 0
    for index, part in enumerate(parts):
        end = start + part.shape[axis]
        refs.append(_along(call, axis, start, end, f".{index}"))
        start = end
    return refs


@captures(torch.narrow, "narrow", dim=REQUIRED, start=REQUIRED, length=REQUIRED)
def _narrow(call: Call, dim: int, start: Any, length: int) -> Ref:
    axis = dim % (len(call.input_shape()) + 1)
    if not isinstance(start, int):
        raise Unsupported("its start is computed")
    start += call.input_shape()[axis - 1] if start < 0 else 0
    return _along(call, axis, start, start + length)


def _along(call: Call, axis: int, start: int, end: int, suffix: str = "") -> Ref:
    """Indices `start` to `end` of one dimension."""
    if axis == 0:
        raise Unsupported("a slice of the batch")
    bounds = [(0, size) for size in call.input_shape()]
    bounds[axis - 1] = (start, end)
    return cropped(call, call.input, bounds, suffix)


def cropped(call: Call, source: Ref, bounds: list[tuple[int, int]], suffix: str = "") -> Ref:
    """Indices `start` to `end` of every dimension of a sample: a slice of channels, and rows and columns as
    negative padding."""
    shape = list(call.input_shape(source))
    if any(end <= start for start, end in bounds):
        raise Unsupported("an empty slice")
    (start, end), *space = bounds
    if (start, end) != (0, shape[0]):
        shape[0] = end - start
        sliced = tuple(shape)
        source = call.node(
            "slice", [source], shape=sliced, suffix=f"{suffix}.channels", dim=1, start=start, end=end
        )
    if space == [(0, size) for size in shape[1:]]:
        return source
    if len(space) != 2:
        raise Unsupported(f"a slice of dimension 2 of {shape} a sample; only of channels, rows and columns")
    (top, bottom), (left, right) = space
    padding = [-top, -left, bottom - shape[1], right - shape[2]]
    cropped = (shape[0], bottom - top, right - left)
    return call.node("pad", [source], shape=cropped, suffix=f"{suffix}.crop", padding=padding)


@captures(operator.getitem)
def _getitem(call: Call) -> Any:
    source, index = call.args
    if isinstance(source, Several):
        return source.item(index)
    if isinstance(source, (list, tuple)):
        return source[index]
    return _index(call, index if isinstance(index, tuple) else (index,))


@captures(getattr)
def _getattr(call: Call) -> Any:
    """Of named tuples, as torch.max(x, 1).values."""
    source, name = call.args
    if not isinstance(source, Several):
        raise Unsupported(f"the attribute {name!r}")
    return source.item(name)


def _index(call: Call, index: tuple[Any, ...]) -> Ref:
    """x[:, a:b, c:d:s, e:f:t]: a slice of channels, a crop, then every s-th row and t-th column (a 1x1
    max-pool); x[:, :, None, None]."""
    numbers = [i for i in index if isinstance(i, int) and not isinstance(i, bool)]
    if numbers and index[0] == slice(None):
        return _index_by_number(call, index)
    if None in index and index[0] == slice(None) and all(i in (None, slice(None), ...) for i in index):
        return call.node("reshape", sample_shape=list(call.output_shape[1:]))
    shape = call.input_shape()
    if ... in index:
        position = index.index(...)
        whole = [slice(None)] * (len(shape) + 2 - len(index))
        index = (*index[:position], *whole, *index[position + 1 :])
    index += (slice(None),) * (len(shape) + 1 - len(index))
    if not all(_is_plain(i) for i in index) or index[0] != slice(None):
        raise Unsupported(f"index {index}")
    ranges = [s.indices(size) for s, size in zip(index[1:], shape, strict=True)]
    channels_step, *stride = (step for _, _, step in ranges)
    if channels_step != 1:
        raise Unsupported("a step over channels")
    result = cropped(call, call.input, [(start, end) for start, end, _ in ranges])
    if all(step == 1 for step in stride):
        return result
    if len(stride) != 2:
        raise Unsupported(f"a step over dimension 2 of {list(shape)} a sample; only over rows and columns")
    return call.node(
        "max_pool2d",
        [result],
        kernel_size=[1, 1],
        stride=stride,
        padding=[0, 0],
        dilation=[1, 1],
        ceil_mode=False,
    )


def _index_by_number(call: Call, index: tuple[Any, ...]) -> Ref:
    """x[:, i]: a slice of one, without its dimension."""
    shape = call.input_shape()
    position = index.index(...) if ... in index else len(index)
    whole = [slice(None)] * (len(shape) + 1 - len(index) + (... in index))
    ranges = [*index[1:position], *whole, *index[position + 1 :]]
    if len(ranges) != len(shape) or not all(isinstance(i, int) or i == slice(None) for i in ranges):
        raise Unsupported(f"index {index}")
    bounds = [
        (i % size, i % size + 1) if isinstance(i, int) else (0, size)
        for i, size in zip(ranges, shape, strict=True)
    ]
    part = cropped(call, call.input, bounds, ".item")
    return call.node("reshape", [part], sample_shape=list(call.output_shape[1:]))


def _is_plain(index: Any) -> bool:
    """Whether it is a slice between known numbers."""
    return isinstance(index, slice) and all(
        isinstance(i, int | None) for i in (index.start, index.stop, index.step)
    )


def _heads(call: Call, order: list[int]) -> Stack | None:
    """Queries, keys and values of all heads, which one layer gives side by side in its channels: a view as
    [N, L, K, H, D] of tokens, or as [N, K, H, D, L] of an image, of which K becomes the first dimension."""
    view = call.fx_node.all_input_nodes[0]
    if len(order) != 5 or order[0] not in (1, 2) or order[1] != 0 or not view.all_input_nodes:
        return None
    source, parts_at = call.values.get(view.all_input_nodes[0]), order[0]
    shape, before = list(view.meta["value"].shape[1:]), view.all_input_nodes[0].meta["value"].shape[1:]
    whole = before[-1:] if parts_at == 2 else before[:1]
    channels = math.prod(shape[parts_at - 1 :][:3])
    if (
        not isinstance(source, Ref)
        or list(whole) != [channels]
        or not all(map(_takes_one, call.fx_node.users))
    ):
        return None
    parts = shape.pop(parts_at - 1)
    joined_shape = tuple(size * parts if axis == parts_at - 1 else size for axis, size in enumerate(shape))
    joined = call.node(
        "reshape", [source], shape=joined_shape, suffix=".heads", sample_shape=list(joined_shape)
    )
    dims = [0, *(d if d < parts_at else d - 1 for d in order[2:])]
    result = tuple(shape[d - 1] for d in dims[1:])
    heads = shape[parts_at - 1]
    refs = []
    for part in range(parts):
        bounds = [(0, size) for size in shape]
        bounds[parts_at - 1] = (part * heads, (part + 1) * heads)
        taken = cropped(call, joined, bounds, f".{part}")
        refs.append(call.node("permute", [taken], shape=result, suffix=f".{part}", dims=dims))
    return Stack(tuple(refs), 0)


def _takes_one(reader: fx.Node) -> bool:
    """Whether it takes parts of the first dimension apart."""
    name = target_name(reader.target)
    if name == "unbind":
        dims = (*reader.args[1:], reader.kwargs.get("dim", 0))
        return bool(dims[0] == 0)
    return name == "getitem" and isinstance(reader.args[1], int)


@captures(torch.permute, "permute", torch.transpose, "transpose")
def _permute(call: Call) -> Ref | Stack:
    dims = call.args[1:] or (call.kwargs.get("dims", ()),)
    order = _order(call.fx_node.target, dims, len(call.input_shape()) + 1)
    if order is None:
        raise Unsupported("computed dimensions")
    heads = _heads(call, order)
    if heads is not None:
        return heads
    if len(order) != len(call.input_shape()) + 1 or order[0] != 0:
        raise Unsupported("the batch dimension does not stay the first")
    if len(order) == 3:  # of a sequence, an image of one row
        return from_row(call, call.as_image()) if order == [0, 2, 1] else call.input
    return call.node("permute", dims=order)
