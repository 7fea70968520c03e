"""Functions of one variable on codes, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..graph.formulas import Codes, QParams, quantize
from ..graph.operators.base import in_float64

Function = tuple[str, Sequence[Any]]


def table(functions: Sequence[Function], x: QParams, out: QParams) -> Tensor:
    """uint8 [256]: quantize(f(dequantize(q))) for every code q, the functions (of
    `ptqx.graph.activations.ACTIVATIONS`) one after the other, each in float64.

    >>> half, one = torch.tensor(0.5), torch.tensor(1.0)
    >>> x, out = QParams(half, torch.tensor(10.0), 0, 255), QParams(one, torch.tensor(0.0), 0, 255)
    >>> table([("relu", ())], x, out)[[0, 10, 12, 20]].tolist()
    [0, 0, 1, 5]
    """
    codes = torch.arange(256, dtype=torch.float32).clamp(x.qmin, x.qmax)
    real = Codes(codes, x).real()
    for name, args in functions:
        real = in_float64(name, real, list(args))
    real = torch.nan_to_num(real, posinf=torch.inf, neginf=-torch.inf)
    return quantize(real, out).values.to(torch.uint8)
