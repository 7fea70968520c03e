"""explain: what the engine does for every layer, with which kernel, and why."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from .coverage import CoverageRow, coverage
from .engine import Engine, float_layers, layers_without_floats
from .integer import IntegerModel
from .io import to_bytes

LINE = re.compile(r"(?P<name>.*?) +(?P<op>\S+) +(?P<bytes>\d+) bytes +(?P<macs>\d+) MACs *(?P<kernel>.*)")
PARTLY_FLOAT = "operator by operator: the network is partly float, which the engine does not run"
WITHOUT_FLOATS = "operator by operator: the network requantizes without floats, which the engine does not"
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
    reason: str


@dataclass(frozen=True)
class Explanation:
    """All rows; printed, it is a table."""

    rows: tuple[ExplainRow, ...]

    def to_dicts(self) -> list[dict[str, Any]]:
        """The rows as plain values, ready for JSON."""
        return [asdict(row) for row in self.rows]

    def __str__(self) -> str:
        header = ("name", "kind", "runs", "bits", "kernel", "tile", "MACs", "bytes", "why")
        cells = [[_cell(value) for value in asdict(row).values()] for row in self.rows]
        widths = [max(len(row[i]) for row in [header, *cells]) for i in range(len(header))]
        numbers = (3, 6, 7)
        lines = [
            "  ".join(
                c.rjust(w) if i in numbers else c.ljust(w)
                for i, (c, w) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in [header, *cells]
        ]
        return "\n".join(lines)


class Step(NamedTuple):
    """A step of the engine's plan."""

    op: str
    bytes: int
    macs: int
    kernel: str


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
    if layers_without_floats(integer):
        return Explanation(tuple(_eager_row(row, WITHOUT_FLOATS) for row in covered))
    steps = _steps(integer)
    known = {row.name for row in covered}
    added = [(name, step) for name, step in steps.items() if name not in known]
    before = [_added_row(name, step) for name, step in added if name == integer.graph.input]
    after = [_added_row(name, step) for name, step in added if name != integer.graph.input]
    return Explanation((*before, *(_engine_row(row, steps.get(row.name)) for row in covered), *after))


def _steps(model: IntegerModel) -> dict[str, Step]:
    from .. import _C

    lines = _C.engine_describe(torch.frombuffer(bytearray(to_bytes(model)), dtype=torch.uint8)).splitlines()
    steps: dict[str, Step] = {}
    for line in lines[:-1]:  # the last is a summary
        match = LINE.fullmatch(line)
        assert match is not None, line
        name, op, kernel = (match[key].strip() for key in ("name", "op", "kernel"))
        earlier = steps.get(name, Step(op, 0, 0, ""))
        macs, kernel = earlier.macs + int(match["macs"]), earlier.kernel or kernel
        steps[name] = Step(op, int(match["bytes"]), macs, kernel)
    return steps


def _engine_row(row: CoverageRow, step: Step | None) -> ExplainRow:
    if step is None:
        reason = row.reason or "no work: the next step reads its input as it lies"
        return ExplainRow(row.name, row.kind, "view", row.bits, "", "", row.macs, None, reason)
    reason = row.reason or _why(step.kernel)
    tile = TILE.search(step.kernel)
    return ExplainRow(
        *(row.name, row.kind, "engine", row.bits, step.kernel, tile[1] if tile else ""),
        *(row.macs, step.bytes, reason),
    )


def _added_row(name: str, step: Step) -> ExplainRow:
    reason = "added by the engine: what the neighbouring steps need"
    return ExplainRow(name, step.op, "engine", None, step.kernel, "", step.macs, step.bytes, reason)


def _eager_row(row: CoverageRow, why: str) -> ExplainRow:
    reason = row.reason or why
    return ExplainRow(row.name, row.kind, row.execution, row.bits, "", "", row.macs, None, reason)


def _why(kernel: str) -> str:
    from .. import _C

    ceiling = _C.isa_ceiling()
    isa = kernel.rpartition("_")[2]
    if isa not in _C.isas_known():
        return "chosen at every call by the instruction set"
    if isa == ceiling:
        return f"{isa} is the highest instruction set allowed here"
    return f"no such kernel for {ceiling}; {isa} is the next below"


def _cell(value: Any) -> str:
    if value is None or value == 0:
        return ""
    return f"{value:,}" if isinstance(value, int) else str(value)
