"""`observe_whole` as an operator: its loops and checks depend on values, which no graph can hold."""

from __future__ import annotations

import json
from collections.abc import Sequence

import torch
from torch import Tensor

from .observer import observe_whole
from .scheme import Scheme, scheme_from_dict


def scheme_text(scheme: Scheme) -> str:
    """A scheme as an operator's argument."""
    return json.dumps(scheme.to_dict())


def batch_range(x: Tensor, scheme: str, name: str, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Low and high of a whole tensor by the observer of the scheme of that `scheme_text`, float32 of `shape`,
    the shape of its scale.

    Raises:
        PtqxError: NaN or infinite values, with their count.

    >>> low, high = batch_range(torch.tensor([1.0, -2.0]), scheme_text(Scheme()), "input", [1])
    >>> low.item(), high.item()
    (-2.0, 1.0)
    """
    return _batch_range(x.detach(), scheme, name, list(shape))


@torch.library.custom_op("ptqx_quant::batch_range", mutates_args=())
def _batch_range(x: Tensor, scheme: str, name: str, shape: list[int]) -> tuple[Tensor, Tensor]:
    low, high = observe_whole(x, scheme_from_dict(json.loads(scheme)), name)
    return low.clone(), high.clone()


@_batch_range.register_fake
def _(x: Tensor, scheme: str, name: str, shape: list[int]) -> tuple[Tensor, Tensor]:
    low = x.new_empty(shape, dtype=torch.float32)
    return low, torch.empty_like(low)
