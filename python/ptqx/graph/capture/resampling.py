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
    _require_images(call)
    return call.node("pixel_shuffle", upscale_factor=int(upscale_factor))


@captures(nn.PixelUnshuffle, torch.pixel_unshuffle, downscale_factor=REQUIRED)
def _pixel_unshuffle(call: Call, downscale_factor: int) -> Ref:
    _require_images(call)
    return call.node("pixel_unshuffle", downscale_factor=int(downscale_factor))


def _require_images(call: Call) -> None:
    if len(call.input_shape()) != 3:
        raise Unsupported(f"of {list(call.input_shape())} a sample; only of [C, H, W]")


@captures(
    nn.Upsample,
    nn.UpsamplingNearest2d,
    F.interpolate,
    size=None,
    scale_factor=None,
    mode="nearest",
    align_corners=None,
)
def _interpolate(call: Call, size: Any, scale_factor: Any, mode: str, align_corners: Any) -> Ref:
    factors = [out / into for out, into in zip(call.output_shape[2:], call.input_shape()[1:], strict=True)]
    if mode != "nearest" or any(f != math.floor(f) for f in factors):
        raise Unsupported(f"mode {mode!r} by {factors}; only nearest by whole factors has an integer form")
    return call.node("upsample_nearest2d", scale_factor=[int(f) for f in factors])
