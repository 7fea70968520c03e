"""Activations after an operation, which the integer graph computes before the operation's rounding."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import PtqxError
from ...graph.activations import ACTIVATIONS, float32
from ..tables import Function
from .operations import array_of, function_of
from .values import Pending, Value


class Tail:
    """An activation after an operation: a function of the activations' table, or PReLU with its slopes."""

    def __init__(self, function: Function | None = None, slopes: np.ndarray | None = None) -> None:
        self.function, self.slopes = function, slopes

    def attrs(self, scale: np.float32 | float) -> dict[str, Any]:
        """Arguments in units of `scale`."""
        if self.slopes is not None:
            return {"activation": "prelu", "activation_args": []}
        if self.function is None:
            return {"activation": "none", "activation_args": []}
        tail = ACTIVATIONS[self.function[0]].tail
        assert tail is not None
        kind, args = tail(float32(float(scale)), *self.function[1])
        return {"activation": kind, "activation_args": [float(a) for a in args]}


def peeled(value: Value) -> tuple[Value, Tail]:
    """A value without the activation that a layer can compute itself, and that activation."""
    if isinstance(value, Pending):
        if value.op_type == "PRelu":
            slopes = array_of(value.inputs[1])
            assert value.inputs[0] is not None
            if slopes is None:
                raise PtqxError(f"{value.label}: its slopes are computed; only constants can be read")
            return value.inputs[0], Tail(slopes=slopes)
        found = function_of(value)
        if found is not None and ACTIVATIONS[found[0]].tail is not None:
            return found[2], Tail(found[:2])
    return value, Tail()
