"""Blocks of pixels that become channels, and channels in another order, in ONNX's forms and in PyTorch's."""

from __future__ import annotations

from typing import Any

from ...errors import PtqxError
from ...graph import IntegerNode
from .values import Pending

BLOCKS = ("DepthToSpace", "SpaceToDepth")
Shape = tuple[int, ...]
Step = tuple[str, dict[str, Any], Shape]  # operation, its attributes, what it gives for a sample


def blocks_of(value: Pending, shape: Shape) -> list[Step] | None:
    """DepthToSpace and SpaceToDepth of a sample's shape; None for all else."""
    if value.op_type not in BLOCKS:
        return None
    r = int(value.attrs["blocksize"])
    if value.op_type == "SpaceToDepth":  # its channels are [r * r, C]
        unshuffled: Step = ("pixel_unshuffle", {"downscale_factor": r}, value.shape)
        return [unshuffled, ("channel_shuffle", {"groups": shape[0]}, value.shape)]
    mode = value.attrs.get("mode", "DCR")
    if mode not in ("CRD", "DCR"):
        raise PtqxError(f"{value.label}: its mode is {mode!r}; only CRD and DCR can be read")
    shuffled: Step = ("pixel_shuffle", {"upscale_factor": r}, value.shape)
    ordered: Step = ("channel_shuffle", {"groups": r * r}, shape)
    return [shuffled] if mode == "CRD" else [ordered, shuffled]


def rearranged(before: Shape, split: Shape, dims: list[int], after: Shape) -> Step | None:
    """What a reshape of [C, H, W] to `split`, a permute and a reshape to `after` are in one."""
    if len(before) != 3 or len(after) != 3:
        return None
    (c, h, w), (channels, height, width) = before, after
    if dims == [0, 2, 1, 3, 4] and split == (split[0], c // split[0], h, w) and after == before:
        return "channel_shuffle", {"groups": split[0]}, after
    if dims == [0, 1, 4, 2, 5, 3] and split == (channels, r := split[1], r, h, w) and height == h * r:
        return "pixel_shuffle", {"upscale_factor": r}, after
    if dims == [0, 1, 3, 5, 2, 4] and split == (c, height, r := split[2], width, r) and h == height * r:
        return "pixel_unshuffle", {"downscale_factor": r}, after
    return None


def is_undone(before: IntegerNode, op: str, attrs: dict[str, Any], shape: Shape) -> bool:
    """Whether a shuffle of channels is the inverse of the one before it, as behind SpaceToDepth."""
    both = before.op == op == "channel_shuffle"
    return both and before.attrs["groups"] * attrs["groups"] == shape[0]
