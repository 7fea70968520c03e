"""How much of networks becomes integer: a line for each, without training or data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from ..errors import PtqxError
from ..files import write_text
from ..graph import Coverage, IntegerModel, compile, coverage, quantize
from ..quant import Recipe
from .bench import load_network
from .rows import markdown_table

HEADER = ("network", "integer MACs %", "float steps", "engine", "what hinders")
SHOWN = 120  # characters of a reason


@dataclass(frozen=True)
class ConvertibleRow:
    """One network.

    Attributes:
        mac_share: of the multiplications of layers and matrix products, on integers, 0 to 1; None where the
            network can't be converted.
        float_steps: those that compute on real values, in the engine or outside of it.
        in_engine: whether the engine runs the whole network, with the same bits as the integer model.
        reason: why not; "" if it does.
    """

    network: str
    mac_share: float | None
    float_steps: int
    in_engine: bool
    reason: str


@dataclass(frozen=True, eq=False)
class ConvertibleReport:
    """A row for every network; `coverages` has the steps of those that could be converted."""

    rows: list[ConvertibleRow]
    coverages: dict[str, Coverage]

    def to_markdown(self) -> str:
        whole = sum(row.in_engine for row in self.rows)
        lines = [_cells(row) for row in self.rows]
        table = markdown_table(HEADER, lines, frozenset(HEADER[1:3]))
        return f"{table}\n\n{whole} of {len(self.rows)} run in the engine, from the first step to the last"

    def to_json(self, path: str | Path) -> None:
        """Write the rows."""
        write_text(path, json.dumps([asdict(row) for row in self.rows], indent=2) + "\n")


def convertible(
    names: Sequence[str], recipe: str | Recipe = "int8", progress: bool = True
) -> ConvertibleReport:
    """Convert networks with random weights and look at what they have become.

    Args:
        names: models of ptqx, of torchvision, or timm/NAME.

    Raises:
        PtqxError: no names, or an unknown one.

    >>> report = convertible(["cnn"], progress=False)
    >>> report.rows[0].mac_share, report.rows[0].in_engine
    (1.0, True)
    """
    if not names:
        raise PtqxError("models: expected at least one name")
    rows, coverages = [], {}
    for name in (bar := tqdm(names, disable=not progress)):
        bar.set_postfix_str(name)
        network = load_network(name)
        try:
            example = network.calibration[0]
            model = quantize(network.model, network.calibration, recipe)
            coverages[name] = coverage(model)
        except PtqxError as error:
            rows.append(ConvertibleRow(name, None, 0, False, str(error)))
            continue
        reason = _engine_refuses(model, example)
        covered = coverages[name]
        rows.append(ConvertibleRow(name, covered.mac_share, len(covered.float_rows), reason == "", reason))
    return ConvertibleReport(rows, coverages)


def _engine_refuses(model: IntegerModel, example: Tensor) -> str:
    try:
        compile(model, example)
    except PtqxError as error:
        return str(error)
    return ""


def _cells(row: ConvertibleRow) -> list[str]:
    share = "-" if row.mac_share is None else f"{100 * row.mac_share:.2f}"
    reason = row.reason if len(row.reason) <= SHOWN else f"{row.reason[:SHOWN]}..."
    return [row.network, share, str(row.float_steps), "yes" if row.in_engine else "no", reason]
