"""Budgets side by side: what was foreseen of each, and what the converted model has."""

from __future__ import annotations

import copy
import re
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from tqdm import tqdm

from ...data import ImageDataset
from ...graph import ImageOptions, IntegerModel, quantize, save
from ...train import evaluate
from ..layer_costs import layer_bytes
from ..rows import accuracy_columns, markdown_table, signed
from .choice import Budget, Choice, MeasuredLayers
from .costs import engine_milliseconds
from .widths import WIDTHS


@dataclass(frozen=True)
class ParetoRow:
    """One budget.

    Attributes:
        widths: how many layers have each width.
        loss: the sum of the layers' losses, estimated.
        bytes, milliseconds: foreseen from the layers measured one by one; None if not timed.
        real_bytes, real_milliseconds: of the converted model: of its layers' tensors, of its steps in the
            engine. None where the engine does not run it, or nothing was to be timed.
        file_bytes: of the .ptqx file.
        top1, drop, drop_ci95, agreement: percent points, of the converted model on the test images.
    """

    budget: str
    widths: dict[str, int]
    loss: float
    bits: float
    bytes: int
    real_bytes: int
    file_bytes: int
    milliseconds: float | None
    real_milliseconds: float | None
    top1: float
    drop: float
    drop_ci95: list[float]
    agreement: float


@dataclass(frozen=True)
class ParetoTable:
    """Rows in the order of the budgets; printed, it is a table."""

    rows: tuple[ParetoRow, ...]
    float_top1: float

    def to_dicts(self) -> list[dict[str, Any]]:
        """The rows as plain values, ready for JSON."""
        return [asdict(row) for row in self.rows]

    def to_markdown(self) -> str:
        header = ["budget", "layers of each width", "bits", "bytes", "real bytes", "file", "ms", "real ms"]
        header += ("loss", "top-1 %", "drop [95 % interval]")
        lines = [
            [
                row.budget,
                ", ".join(f"{count} x {width}" for width, count in row.widths.items()),
                f"{row.bits:.3f}",
                *(f"{value:,}" for value in (row.bytes, row.real_bytes, row.file_bytes)),
                *("-" if ms is None else f"{ms:.3g}" for ms in (row.milliseconds, row.real_milliseconds)),
                f"{row.loss:+.4f}",
                f"{row.top1:.2f}",
                f"{signed(row.drop)} [{signed(row.drop_ci95[0])}, {signed(row.drop_ci95[1])}]",
            ]
            for row in self.rows
        ]
        return markdown_table(header, lines, frozenset(header[2:]))

    def check(self) -> str:
        """How well what was foreseen agrees with what the converted models have, in a sentence.

        Bytes follow from the widths and must be equal. Milliseconds are those of layers timed one by one, in
        networks with one width throughout; in the network with several widths a layer's neighbours differ.
        """
        off = [row.budget for row in self.rows if row.bytes != row.real_bytes]
        bytes_agree = f"differ for {', '.join(off)}" if off else "are those foreseen, all of them"
        ratios = [
            row.real_milliseconds / row.milliseconds
            for row in self.rows
            if row.milliseconds and row.real_milliseconds is not None
        ]
        if not ratios:
            return f"real bytes {bytes_agree}"
        times = f"{min(ratios):.2f} to {max(ratios):.2f} times those foreseen"
        return f"real bytes {bytes_agree}; real milliseconds are {times}"

    def __str__(self) -> str:
        return f"{self.to_markdown()}\n{self.check()}"


def pareto(
    model: nn.Module,
    calibration: Sequence[Tensor],
    test: ImageDataset | Iterable[tuple[Tensor, Tensor]],
    measured: MeasuredLayers,
    budgets: Sequence[Budget],
    *,
    save_to: str | Path | None = None,
    seed: int = 0,
    progress: bool = False,
) -> ParetoTable:
    """Choose, convert and measure the model for every budget.

    Args:
        calibration: batches of inputs.
        test: images for the accuracy, read once per budget.
        measured: of `measure_layers` for this model.
        save_to: folder for the .ptqx files; by default they are deleted when their size is known.
    """
    choices = [measured.choose(budget) for budget in budgets]  # what is impossible shows before work begins
    reference = evaluate(copy.deepcopy(model).eval(), test)
    rows = []
    if save_to is not None:
        Path(save_to).mkdir(parents=True, exist_ok=True)
    folder = tempfile.TemporaryDirectory(prefix="ptqx-") if save_to is None else nullcontext(str(save_to))
    with folder as place:
        for choice in tqdm(choices, "budgets", disable=not progress, leave=False):
            converted = quantize(model, calibration, choice.recipe, progress=progress)
            file = Path(place) / f"mixed-{re.sub('[ ,]+', '-', str(choice.budget))}.ptqx"
            save(converted, file, image=_image_options(test))
            accuracy = accuracy_columns(reference, evaluate(converted, test), seed)
            rows.append(_row(choice, converted, file, measured.costs.batch, accuracy))
    return ParetoTable(tuple(rows), reference.top1)


def _row(
    choice: Choice, converted: IntegerModel, file: Path, batch: int, accuracy: dict[str, Any]
) -> ParetoRow:
    """What was foreseen of a choice beside what its converted model has."""
    chosen = list(choice.widths.values())
    return ParetoRow(
        budget=str(choice.budget),
        widths={str(width): chosen.count(width) for width in WIDTHS if width in chosen},
        loss=choice.loss,
        bits=choice.bits,
        bytes=choice.bytes,
        real_bytes=sum(layer_bytes(converted).values()),
        file_bytes=file.stat().st_size,
        milliseconds=choice.milliseconds,
        real_milliseconds=engine_milliseconds(converted, batch) if batch else None,
        **accuracy,
    )


def _image_options(test: Any) -> ImageOptions | None:
    """How image files become inputs, where the data set says it."""
    if not isinstance(test, ImageDataset):
        return None
    return ImageOptions(test.mean, test.std, classes=test.classes)
