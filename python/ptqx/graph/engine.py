"""Engine: the whole integer network as one operator that runs one plan."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PtqxError
from ..files import pageable
from .integer import IntegerModel
from .io import from_bytes
from .structure import leaves, mapped


class Engine(nn.Module):
    """An integer network compiled to one call of `torch.ops.ptqx.engine_run`, or of `engine_run_outputs` if
    it returns several tensors. Made by `ptqx.compile`.

    Input [N] + sample shape float32, output [N] + output_shape float32, equal bit by bit to the integer
    model's.

    Attributes:
        program: uint8, the content of the .ptqx file; the only state. It is read when the first run packs the
            weights, and takes no memory from then on (`ptqx.files.pageable`).
        output_shapes: of one sample, of each tensor that the network returns, in order.
    """

    program: Tensor

    def __init__(self, program: Tensor, output: Any) -> None:
        """`output`: what the integer model gives."""
        super().__init__()
        self.register_buffer("program", program)
        self.output_shapes = [list(tensor.shape[1:]) for tensor in leaves(output)]
        self._ranks = [len(shape) for shape in self.output_shapes]
        self._extents = [extent for shape in self.output_shapes for extent in shape]
        positions = itertools.count()
        self._structure = mapped(output, lambda _: next(positions))
        self.eval()

    @property
    def output_shape(self) -> Any:
        """Of one sample; of several tensors, in the tuples, lists and dicts that the network returns."""
        return mapped(self._structure, self.output_shapes.__getitem__)

    def forward(self, x: Tensor) -> Any:
        if self._structure == 0:
            return torch.ops.ptqx.engine_run(x, self.program, self.output_shapes[0])
        outputs = torch.ops.ptqx.engine_run_outputs(x, self.program, self._ranks, self._extents)
        return mapped(self._structure, outputs.__getitem__)

    def to_integer_model(self) -> IntegerModel:
        """The integer model that was compiled."""
        return from_bytes(self.program.numpy().tobytes())

    def extra_repr(self) -> str:
        return f"{self.program.numel()} bytes, output {self.output_shape}"

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Of copies and of what was pickled: their programs take no memory either."""
        super().__setstate__(state)
        if type(self.program) is Tensor and self.program.device.type == "cpu":
            with torch.inference_mode(False):
                self.program = pageable(self.program.numpy().tobytes())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Engine:
        probe = fn(torch.zeros(1))
        if probe.dtype != torch.float32 or probe.device.type != "cpu":
            raise PtqxError(
                f"an engine can't become {probe.dtype} on {probe.device}: it runs in integers on the CPU; "
                "convert or move the float model instead"
            )
        return super()._apply(fn, recurse)
