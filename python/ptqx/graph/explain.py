"""explain: what the engine does for every layer, with which kernel, and why."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..files import pageable
from ..tables import aligned
from .compilation import float_layers, wide_layers
from .coverage import CoverageRow, coverage
from .engine import Engine
from .integer import IntegerModel
from .io import to_bytes
from .tuning import TunedStep

PARTLY_FLOAT = "operator by operator: the network is partly float, which the engine does not run"
WIDE = "operator by operator: the network has codes of more than 8 bits, which the engine does not run"
TILE = re.compile(r"_(\d+x\d+(?:x\d+)?)(?:c\d+)?_")


@dataclass(frozen=True)
class ExplainRow:
    """One layer of the network, or one step that the engine adds.

    Attributes:
        name, kind: of the layer and its operation.
        runs: "engine", "view" (no work: its input is read as it lies), "integer" (operator by operator) or
            "float".
        bits: of its weights; None without.
        kernel: the engine's choice for this CPU; "" where the kind of step has one at all times.
        tile: output pixels x output channels that the kernel computes at a time; "" if it has none.
        macs: multiplications a sample.
        bytes: written a sample; None where the engine has no step.
        tuned: the strategies that tuning chose; "" without.
        reason: why it runs so.
    """

    name: str
    kind: str
    runs: str
    bits: int | None
    kernel: str
    tile: str
    macs: int
    bytes: int | None
    tuned: str
    reason: str


@dataclass(frozen=True)
class Explanation:
    """All rows; printed, it is a table."""

    rows: tuple[ExplainRow, ...]

    def to_dicts(self) -> list[dict[str, Any]]:
        """The rows as plain values, ready for JSON."""
        return [asdict(row) for row in self.rows]

    def __str__(self) -> str:
        header = ("name", "kind", "runs", "bits", "kernel", "tile", "MACs", "bytes", "tuned", "why")
        cells = [[_cell(value) for value in asdict(row).values()] for row in self.rows]
        return aligned(header, cells, ("bits", "MACs", "bytes"))


@torch.no_grad()
def explain(model: nn.Module) -> Explanation:
    """List what runs for every layer of an integer model or an engine on this CPU, and why.

    Raises:
        PtqxError: not such a model, or nothing in it is quantized.

    >>> import ptqx, torch
    >>> x = torch.randn(4, 1, 8, 8)
    >>> qmodel = ptqx.quantize(ptqx.models.cnn(in_channels=1, num_classes=10).eval(), [x], "int8")
    >>> [row.kind for row in ptqx.explain(qmodel).rows if row.macs]
    ['conv2d', 'conv2d', 'conv2d', 'linear']
    """
    covered = coverage(model).rows
    integer = model.to_integer_model() if isinstance(model, Engine) else model
    assert isinstance(integer, IntegerModel)
    if float_layers(integer):
        return Explanation(tuple(_eager_row(row, PARTLY_FLOAT) for row in covered))
    if wide_layers(integer):
        return Explanation(tuple(_eager_row(row, WIDE) for row in covered))
    program = model.program if isinstance(model, Engine) else pageable(to_bytes(integer))
    steps = _steps(program)
    known = {row.name for row in covered}
    added = [(name, step) for name, step in steps.items() if name not in known]
    before = [_added_row(step) for name, step in added if name == integer.graph.input]
    after = [_added_row(step) for name, step in added if name != integer.graph.input]
    return Explanation((*before, *(_engine_row(row, steps.get(row.name)) for row in covered), *after))


def _steps(program: Tensor) -> dict[str, dict[str, Any]]:
    """The engine's steps by name; of a layer that takes several, the last, with the first's kernel and all
    multiplications."""
    from .. import _C

    steps: dict[str, dict[str, Any]] = {}
    for step in _C.engine_steps(program):
        earlier = steps.get(step["name"], {"macs": 0, "kernel": ""})
        step["macs"] += earlier["macs"]
        step["kernel"] = earlier["kernel"] or step["kernel"]
        steps[step["name"]] = step
    return steps


def _engine_row(row: CoverageRow, step: dict[str, Any] | None) -> ExplainRow:
    if step is None:
        reason = row.reason or "no work: the next step reads its input as it lies"
        return ExplainRow(row.name, row.kind, "view", row.bits, "", "", row.macs, None, "", reason)
    reason = row.reason or _why(step["kernel"], step["suits_tiles"])
    tile = TILE.search(step["kernel"])
    return ExplainRow(
        *(row.name, row.kind, "engine", row.bits, step["kernel"], tile[1] if tile else ""),
        *(row.macs, step["bytes"], "; ".join(str(TunedStep(**choice)) for choice in step["tuned"]), reason),
    )


def _added_row(step: dict[str, Any]) -> ExplainRow:
    reason = "added by the engine: what the neighbouring steps need"
    name, op, kernel, macs, written = (step[key] for key in ("name", "op", "kernel", "macs", "bytes"))
    return ExplainRow(name, op, "engine", None, kernel, "", macs, written, "", reason)


def _eager_row(row: CoverageRow, why: str) -> ExplainRow:
    reason = row.reason or why
    return ExplainRow(row.name, row.kind, row.execution, row.bits, "", "", row.macs, None, "", reason)


def _why(kernel: str, suits_tiles: bool) -> str:
    from .. import _C

    ceiling = _C.isa_ceiling()
    if kernel.rpartition("_")[2] not in _C.isas_known():
        return "chosen at every call by the instruction set"
    if suits_tiles:
        return "few pixels to a weight; of many, tile_gemm_u8s8 of amxint8 where it is faster"
    if ceiling == _C.isas_supported()[-1]:
        return "the best kernel for this CPU"
    return f"the best kernel for {ceiling}, the highest instruction set allowed"


def _cell(value: Any) -> str:
    if value is None or value == 0:
        return ""
    return f"{value:,}" if isinstance(value, int) else str(value)
