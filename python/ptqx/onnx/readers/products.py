"""Products of two values of the network, and softmax, in ONNX's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...errors import PtqxError
from .operations import function_of
from .values import Pending, Value

SOFTMAX = ("Softmax", "LogSoftmax")
FIRST_WITH_ONE_AXIS = 13  # opset


@dataclass(frozen=True, eq=False)
class Moved:
    """`factor` times `value` with its dimensions in the order `dims`; None as they are."""

    value: Value
    dims: list[int] | None
    factor: float


def unmoved(value: Value) -> Moved:
    """A value without transposes and products with positive numbers around it."""
    dims: list[int] | None = None
    factor = 1.0
    while isinstance(value, Pending):
        x = value.inputs[0] if value.inputs else None
        perm = list(value.attrs.get("perm", [])) if value.op_type == "Transpose" else []
        if x is not None and perm and perm[0] == 0:
            dims = perm if dims is None else [perm[d] for d in dims]
            value = x
            continue
        number = _positive_number_of(value)
        if number is None:
            break
        factor, value = factor * number[0], number[1]
    return Moved(value, dims, factor)


def _positive_number_of(value: Pending) -> tuple[float, Value] | None:
    """What multiplies a value, and that value."""
    if value.op_type not in ("Mul", "Div"):
        return None
    found = function_of(value)
    if found is None or found[0] not in ("mul_scalar", "divide_by_scalar") or not found[1][0] > 0:
        return None
    return (found[1][0] if found[0] == "mul_scalar" else 1.0 / found[1][0]), found[2]


def softmax_attrs(attrs: dict[str, Any], rank: int, opset: int) -> dict[str, Any]:
    """As later opsets have them: earlier ones saw a matrix, all dimensions from the axis on as one."""
    if opset >= FIRST_WITH_ONE_AXIS:
        return attrs
    if attrs.get("axis", 1) % rank != rank - 1:
        raise PtqxError(f"over several dimensions, as in opset {opset}; only over one can be read")
    return {**attrs, "axis": -1}
