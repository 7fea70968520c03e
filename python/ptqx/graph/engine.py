"""compile: the whole integer network as one operator that runs one plan."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PtqxError, listed
from ..files import pageable
from .capture import example_tensor
from .integer import IntegerModel
from .io import from_bytes, to_bytes
from .structure import leaves, mapped
from .tuning import tune as tune_program


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
        shapes = self.output_shapes
        ranks, extents = [len(shape) for shape in shapes], [extent for shape in shapes for extent in shape]
        outputs = torch.ops.ptqx.engine_run_outputs(x, self.program, ranks, extents)
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


def float_layers(qmodel: IntegerModel) -> list[str]:
    """Names of the layers that compute in float, which the engine does not run."""
    in_float = ("_float", "_simulated")
    return [node.name for node in qmodel.graph if node.op == "float" or node.op.endswith(in_float)]


def wide_layers(qmodel: IntegerModel) -> list[str]:
    """Names of the steps that take or give codes of more than 8 bits, which the engine does not run."""
    graph = qmodel.graph
    wide = {node.name for node in graph if node.output.dtype == "int16"}
    return [node.name for node in graph if node.op.endswith("_wide") or {node.name, *node.inputs} & wide]


@torch.no_grad()
def compile(qmodel: IntegerModel, example_inputs: Any, *, tune: bool = False) -> Engine:
    """Compile an integer model to one operator call; check on the example that both are equal.

    Args:
        qmodel: of `ptqx.convert` or `ptqx.load`.
        example_inputs: a tensor of the shape it takes, or a tuple with one.
        tune: measure for some seconds which ways to compute the layers are the fastest on this machine, for
            the example's batch size and torch's threads. No number changes. What was measured is kept in
            `~/.cache/ptqx` ($XDG_CACHE_HOME), so that the next time nothing is measured again, and stays with
            the engine when it is saved, copied or exported.

    Raises:
        PtqxError: parts that the engine can't run, by name; an example that does not fit.
    """
    if not isinstance(qmodel, IntegerModel):
        raise PtqxError(f"qmodel: expected an integer model of ptqx.convert, got {type(qmodel).__name__}")
    example = example_tensor(example_inputs)
    in_float = float_layers(qmodel)
    if in_float:
        raise PtqxError(f"the engine runs integer layers only; these compute in float: {listed(in_float)}")
    wide = wide_layers(qmodel)
    if wide:
        raise PtqxError(f"the engine runs codes of up to 8 bits; these have more: {listed(wide)}")
    expected = qmodel(example)
    engine = _checked_engine(qmodel, example, expected)
    if not tune:
        return engine
    found = tune_program(engine.program, len(example))
    if found is None:
        return engine
    tuning = found.merged_over(qmodel.graph.tuning)
    tuned = IntegerModel(replace(qmodel.graph, tuning=tuning), qmodel.tensors())
    return _checked_engine(tuned, example, expected)


def _checked_engine(qmodel: IntegerModel, example: Tensor, expected: Any) -> Engine:
    with torch.inference_mode(False):  # so that the buffer counts its writes: what is built of it is kept
        engine = Engine(pageable(to_bytes(qmodel)), expected)
    try:
        got = engine(example)
    except (RuntimeError, ValueError) as error:
        raise PtqxError(f"the engine can't run this network: {str(error).splitlines()[0]}") from error
    different = sum(int((a != b).sum()) for a, b in zip(leaves(got), leaves(expected), strict=True))
    if different:
        raise PtqxError(
            f"the engine differs from the integer model in {different} outputs; it is a defect of ptqx"
        )
    return engine
