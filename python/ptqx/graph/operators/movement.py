"""Operations that move codes, or lay others between them: shapes, slices, padding, shuffles, upsampling,
max-pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ... import ops
from ..formulas import Codes, round_and_clamp, upsample_bilinear2d
from ..ir import Node
from .base import IntegerScope, Mover, Operator, Value, as_codes, operator, spatial

if TYPE_CHECKING:
    from ..document import IntegerNode
    from ..simulated import SimulatedModel


@operator("flatten")
class Flatten(Mover):
    def move(self, attrs: dict[str, Any], x: Tensor, zero: Tensor | None) -> Tensor:
        return x.flatten(attrs["start_dim"])


@operator("reshape")
class Reshape(Mover):
    """`sample_shape` is without the batch."""

    def move(self, attrs: dict[str, Any], x: Tensor, zero: Tensor | None) -> Tensor:
        return x.reshape(x.shape[0], *attrs["sample_shape"])


@operator("slice")
class Slice(Mover):
    def move(self, attrs: dict[str, Any], x: Tensor, zero: Tensor | None) -> Tensor:
        return x[:, attrs["start"] : attrs["end"]]


@operator("permute")
class Permute(Mover):
    def move(self, attrs: dict[str, Any], x: Tensor, zero: Tensor | None) -> Tensor:
        return x.permute(attrs["dims"])


@operator("channel_shuffle")
class ChannelShuffle(Mover):
    def move(self, attrs: dict[str, Any], x: Tensor, zero: Tensor | None) -> Tensor:
        return x.unflatten(1, (attrs["groups"], -1)).transpose(1, 2).flatten(1, 2)


@operator("pad")
class Pad(Mover):
    """Zeros around the image: zero points, for codes; or, with another `mode` of torch.nn.functional.pad,
    what that takes from the image. `padding` is [top, left, bottom, right]; where it is negative, rows or
    columns are left out instead."""

    def move(self, attrs: dict[str, Any], x: Tensor, zero: Tensor | None) -> Tensor:
        if attrs.get("mode", "constant") != "constant":
            for axis in (0, 1):
                before, after = attrs["padding"][axis], attrs["padding"][2 + axis]
                indices = padded_indices(x.shape[2 + axis], before, after, attrs["mode"])
                x = x.index_select(2 + axis, indices.to(x.device))
            return x
        rows, columns = (
            slice(max(-attrs["padding"][axis], 0), x.shape[2 + axis] + min(attrs["padding"][2 + axis], 0))
            for axis in (0, 1)
        )
        x = x[:, :, rows, columns]
        top, left, bottom, right = (max(size, 0) for size in attrs["padding"])
        if not any((top, left, bottom, right)):
            return x.clone(memory_format=torch.channels_last)
        n, c, h, w = x.shape
        shape = (n, c, h + top + bottom, w + left + right)
        value = x.new_zeros(()) if zero is None else zero.reshape(()).to(x.dtype)
        padded = value.expand(shape).clone(memory_format=torch.channels_last)
        padded[:, :, top : top + h, left : left + w] = x
        return padded


def padded_indices(size: int, before: int, after: int, mode: str) -> Tensor:
    """Of which rows (or columns) those of the padded image are copies."""
    index = torch.arange(-before, size + after)
    if mode == "circular":
        return index % size
    if mode == "replicate":
        return index.clamp(0, size - 1)
    return (size - 1) - ((size - 1) - index.abs()).abs()


@operator("pixel_shuffle")
class PixelShuffle(Mover):
    def move(self, attrs: dict[str, Any], x: Tensor, zero: Tensor | None) -> Tensor:
        return F.pixel_shuffle(x, attrs["upscale_factor"])


@operator("pixel_unshuffle")
class PixelUnshuffle(Mover):
    def move(self, attrs: dict[str, Any], x: Tensor, zero: Tensor | None) -> Tensor:
        return F.pixel_unshuffle(x, attrs["downscale_factor"])


@operator("upsample_nearest2d")
class UpsampleNearest2d(Mover):
    def move(self, attrs: dict[str, Any], x: Tensor, zero: Tensor | None) -> Tensor:
        by_height, by_width = attrs["scale_factor"]
        return x.repeat_interleave(by_height, dim=2).repeat_interleave(by_width, dim=3)


@operator("upsample_zeros2d")
class UpsampleZeros2d(Mover):
    """Zeros between the pixels: zero points, for codes."""

    def move(self, attrs: dict[str, Any], x: Tensor, zero: Tensor | None) -> Tensor:
        by_height, by_width = attrs["scale_factor"]
        n, c, h, w = x.shape
        value = x.new_zeros(()) if zero is None else zero.reshape(()).to(x.dtype)
        shape = (n, c, (h - 1) * by_height + 1, (w - 1) * by_width + 1)
        spread = value.expand(shape).clone(memory_format=torch.channels_last)
        spread[:, :, ::by_height, ::by_width] = x
        return spread


@operator("upsample_bilinear2d")
class UpsampleBilinear2d(Operator):
    """Weighted means of four values, float32 in every recipe; codes keep scale and zero point."""

    def real(self, attrs: dict[str, Any], *inputs: Tensor) -> Tensor:
        size, align_corners = attrs["size"], attrs["align_corners"]
        return F.interpolate(inputs[0], size, mode="bilinear", align_corners=align_corners)

    def exact(self, model: SimulatedModel, node: Node, *inputs: Any) -> Value:
        (x,) = inputs
        if not isinstance(x, Codes):
            return upsample_bilinear2d(x, node.attrs["size"], node.attrs["align_corners"])
        means = upsample_bilinear2d(x.centered(), node.attrs["size"], node.attrs["align_corners"])
        return Codes(round_and_clamp(means, x.qparams), x.qparams)

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        size, align_corners = node.attrs["size"], node.attrs["align_corners"]
        if node.output.dtype == "int16":
            zero_point = scope.qparams(node.name)[1]
            means = upsample_bilinear2d(inputs[0].float() - zero_point, size, align_corners)
            return as_codes(node, means.round() + zero_point)
        zero = None if node.output.dtype == "float32" else scope.qparams(node.name)[1]
        return ops.upsample_bilinear2d(inputs[0], zero, size, align_corners)


@operator("max_pool2d")
class MaxPool2d(Mover):
    def move(self, attrs: dict[str, Any], x: Tensor, zero: Tensor | None) -> Tensor:
        return F.max_pool2d(
            x, attrs["kernel_size"], attrs["stride"], attrs["padding"], attrs["dilation"], attrs["ceil_mode"]
        )

    def run(self, scope: IntegerScope, node: Any, *inputs: Tensor) -> Tensor:
        attrs = node.attrs
        if node.output.dtype == "float32":
            return self.move(attrs, inputs[0], None)
        if node.output.dtype == "int16":  # PyTorch pools no int16; float32 holds them all
            return as_codes(node, self.move(attrs, inputs[0].float(), None))
        return torch.ops.ptqx.max_pool2d(
            spatial(inputs[0]),
            attrs["kernel_size"],
            attrs["stride"],
            attrs["padding"],
            attrs["dilation"],
            attrs["ceil_mode"],
        )


@operator("dropout")
class Dropout(Mover):
    """Active while quantization-aware training trains the module, else nothing; not in the integer graph."""

    def move(self, attrs: dict[str, Any], x: Tensor, zero: Tensor | None) -> Tensor:
        return x

    def train(self, model: Any, node: Any, *inputs: Tensor) -> Tensor:
        if model.qat and node.module is not None:
            return model.get_submodule(node.module)(inputs[0])
        return inputs[0]
