"""What a tensor of an ONNX model is while its graph is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...errors import PtqxError


class Quantization(NamedTuple):
    """real = scale * (q - zero_point), q uint8."""

    scale: np.float32
    zero_point: int


@dataclass(frozen=True, eq=False)
class Constant:
    """Numbers, as they are."""

    array: np.ndarray


@dataclass(frozen=True, eq=False)
class QuantizedConstant:
    """Numbers as whole ones: real = scale * (codes - zero_point). `codes` are int32 whose type in the file is
    `dtype`; scale and zero point are one, one per entry of `axis`, or with `block_size` one per block of
    it."""

    codes: np.ndarray
    dtype: str
    scale: np.ndarray
    zero_point: np.ndarray
    axis: int
    block_size: int

    def real(self) -> np.ndarray:
        scale, zero_point = (self._spread(p) for p in (self.scale, self.zero_point))
        return ((self.codes - zero_point) * scale).astype(np.float32)

    def _spread(self, parameter: np.ndarray) -> np.ndarray:
        if parameter.size == 1:
            return parameter.reshape(())
        if self.block_size:
            return parameter.repeat(self.block_size, self.axis)[
                tuple(slice(extent) for extent in self.codes.shape)
            ]
        shape = [1] * self.codes.ndim
        shape[self.axis] = -1
        return parameter.reshape(shape)


@dataclass(frozen=True, eq=False)
class Codes:
    """uint8 codes that a node of the integer graph gives; `shift` is what to add to the file's codes."""

    node: str
    shift: int = 0


@dataclass(frozen=True, eq=False)
class LookedUp:
    """uint8 codes through a table; DequantizeLinear tells what they mean."""

    tensor: str
    table: np.ndarray
    x: Codes


@dataclass(frozen=True, eq=False)
class Dequantized:
    """The real values of a node's codes; `tensor` is their name in the file."""

    node: str
    tensor: str


@dataclass(frozen=True, eq=False)
class Real:
    """float32 that a node of the integer graph, or the network's input, gives."""

    node: str


@dataclass(frozen=True, eq=False)
class Pending:
    """The result of an operation on real values that is not in the integer graph yet: whether it becomes
    codes depends on its reader. `shape` is of one sample; None if unknown."""

    tensor: str
    op_type: str
    inputs: tuple[Value | None, ...]
    attrs: dict[str, Any]
    known_shape: tuple[int, ...] | None

    @property
    def label(self) -> str:
        return f"{self.tensor} ({self.op_type})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample.

        Raises:
            PtqxError: ONNX's shape inference does not know it.
        """
        if self.known_shape is None:
            raise PtqxError(
                f"{self.label}: its shape is not fixed; give the model's input a fixed size (all but the "
                "batch) and simplify it, as onnxruntime's quant_pre_process does"
            )
        return self.known_shape


Value = Constant | QuantizedConstant | Codes | LookedUp | Dequantized | Real | Pending
