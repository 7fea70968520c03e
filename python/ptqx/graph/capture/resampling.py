"""Capture of what gives images another resolution: upsampling, pixel shuffles."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .call import REQUIRED, Call, Ref, Unsupported, captures


@captures(nn.PixelShuffle, torch.pixel_shuffle, upscale_factor=REQUIRED)
def _pixel_shuffle(call: Call, upscale_factor: int) -> Ref:
    call.require_images()
    return call.node("pixel_shuffle", upscale_factor=int(upscale_factor))


@captures(nn.PixelUnshuffle, torch.pixel_unshuffle, downscale_factor=REQUIRED)
def _pixel_unshuffle(call: Call, downscale_factor: int) -> Ref:
    call.require_images()
    return call.node("pixel_unshuffle", downscale_factor=int(downscale_factor))


@captures(
    nn.Upsample,
    nn.UpsamplingNearest2d,
    nn.UpsamplingBilinear2d,
    F.interpolate,
    size=None,
    scale_factor=None,
    mode="nearest",
    align_corners=None,
    recompute_scale_factor=None,
    antialias=False,
)
def _interpolate(
    call: Call,
    size: Any,
    scale_factor: Any,
    mode: str,
    align_corners: bool | None,
    recompute_scale_factor: bool | None,
    antialias: bool,
) -> Ref:
    call.require_images()
    if mode not in ("nearest", "bilinear") or antialias:
        described = f"mode {mode!r}" + (" with antialias" if antialias else "")
        raise Unsupported(f"{described}; only nearest and bilinear, without antialias, have an integer form")
    before, after = call.input_shape()[1:], call.output_shape[2:]
    if scale_factor is not None and not recompute_scale_factor and not align_corners:
        _require_whole_sizes(scale_factor, before, after)
    if mode == "bilinear":
        return call.node("upsample_bilinear2d", size=list(after), align_corners=bool(align_corners))
    factors = [out / into for out, into in zip(after, before, strict=True)]
    if any(f != math.floor(f) for f in factors):
        raise Unsupported(f"mode 'nearest' by {factors}; only whole factors have an integer form")
    return call.node("upsample_nearest2d", scale_factor=[int(f) for f in factors])


@captures("expand", "expand_as", "repeat", "broadcast_to", torch.broadcast_to)
def _expand(call: Call) -> Ref:
    """One value a channel for every pixel of an image."""
    before, after = call.input_shape(), call.output_shape[1:]
    if before == after:
        return call.input
    if len(after) != 3 or before != (after[0], 1, 1):
        raise Unsupported(f"from {list(before)} to {list(after)} a sample; only from one pixel to an image")
    return call.node("upsample_nearest2d", scale_factor=list(after[1:]))


def _require_whole_sizes(scale_factor: Any, before: tuple[int, ...], after: tuple[int, ...]) -> None:
    """PyTorch places pixels by the factor that is given, not by the sizes, which are rounded down."""
    factors = scale_factor if isinstance(scale_factor, tuple | list) else [scale_factor] * len(before)
    if any(not math.isclose(f * size, out) for f, size, out in zip(factors, before, after, strict=True)):
        raise Unsupported(
            f"scale_factor {scale_factor} of {list(before)} is no whole size; give size={list(after)}, or "
            "recompute_scale_factor=True"
        )
