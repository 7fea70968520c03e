"""`observe_levels` as an operator: its loops and checks depend on values, which no graph can hold."""

from __future__ import annotations

import json
from collections.abc import Sequence

import torch
from torch import Tensor

from .midrise import ObservedLevels, observe_levels
from .scheme import Scheme, scheme_from_dict


def scheme_text(scheme: Scheme) -> str:
    """A scheme as an operator's argument."""
    return json.dumps(scheme.to_dict())


def batch_range(x: Tensor, scheme: str, name: str, shape: Sequence[int]) -> ObservedLevels:
    """What `observe_levels` sees in a whole tensor, by the scheme of that `scheme_text`.

    low and high are float32 of `shape`, the shape of its scale.

    Raises:
        PtqxError: NaN or infinite values, with their count.

    >>> low, high, _ = batch_range(torch.tensor([1.0, -2.0]), scheme_text(Scheme()), "input", [1])
    >>> low.item(), high.item()
    (-2.0, 1.0)
    """
    low, high, midrise = _batch_range(x.detach(), scheme, name, list(shape))
    return ObservedLevels(low, high, midrise if midrise.numel() > 0 else None)


@torch.library.custom_op("ptqx_quant::batch_range", mutates_args=())
def _batch_range(x: Tensor, scheme: str, name: str, shape: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    low, high, midrise = observe_levels(x, scheme_from_dict(json.loads(scheme)), name)
    none = torch.empty(0, dtype=torch.uint8, device=x.device)
    return low.clone(), high.clone(), none if midrise is None else midrise.clone()


@_batch_range.register_fake
def _(x: Tensor, scheme: str, name: str, shape: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    low = x.new_empty(shape, dtype=torch.float32)
    channels = shape[:1] if scheme_from_dict(json.loads(scheme)).chooses_levels else [0]
    return low, torch.empty_like(low), x.new_empty(channels, dtype=torch.uint8)
