"""What stands for a tensor while the model's code is traced."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import Tensor, fx

ATTRIBUTES = ("shape", "ndim", "dtype", "device", "layout", "is_cuda", "requires_grad")
METHODS = (
    "size", "dim", "ndimension", "numel", "nelement", "stride", "element_size", "get_device",
    "is_floating_point", "is_complex", "is_contiguous",
)  # fmt: skip
IN_PLACE = ("iadd", "isub", "imul", "itruediv", "__iadd__", "__isub__", "__imul__", "__itruediv__")


class BatchSize(int):
    """The number of samples of the example, or a multiple of it. Sums and quotients of it are plain
    numbers."""

    def __mul__(self, other: Any) -> Any:
        product = int(self) * other
        return BatchSize(product) if type(other) is int else product

    __rmul__ = __mul__


class TracedValue(fx.Proxy):
    """A node of the graph, and what it gave for the example. Shapes and types of tensors are known, as in a
    program that runs; the numbers in them are not, so that a branch on them can't be traced.

    Attributes:
        value: tensors, or what else the node gave.
        depends_on_input: False for what is computed of parameters, buffers and shapes alone.
    """

    value: Any = None
    depends_on_input = False

    def __getattr__(self, k: str) -> Any:
        if isinstance(self.value, Tensor):
            if k == "shape":
                return self._shape()
            if k in ATTRIBUTES:
                return getattr(self.value, k)
            if k in METHODS:
                return lambda *args, **kwargs: self.fact(k, *args, **kwargs)
        if not callable(getattr(self.value, k)):
            return self.tracer.create_proxy("call_function", getattr, (self, k), {})
        return super().__getattr__(k)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise RuntimeError("a part of a tensor is written")

    def __iadd__(self, other: Any) -> Any:
        return self._in_place(operator.iadd, other)

    def __isub__(self, other: Any) -> Any:
        return self._in_place(operator.isub, other)

    def __imul__(self, other: Any) -> Any:
        return self._in_place(operator.imul, other)

    def __itruediv__(self, other: Any) -> Any:
        return self._in_place(operator.itruediv, other)

    def _in_place(self, operation: Any, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operation, (self, other), {})

    def __len__(self) -> int:
        return len(self.value)

    def fact(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """What a method of METHODS says of the tensor."""
        if method == "size":
            dim = args[0] if args else kwargs.get("dim")
            return self._shape() if dim is None else self._shape()[dim]
        if method in ("numel", "nelement"):
            return math.prod(self._shape())
        return getattr(self.value, method)(*args, **kwargs)

    def _shape(self) -> torch.Size:
        """The first dimension of what depends on the input is the batch."""
        shape = self.value.shape
        return torch.Size((BatchSize(shape[0]), *shape[1:])) if self.depends_on_input and shape else shape
