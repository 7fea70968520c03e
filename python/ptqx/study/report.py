"""The result of a comparison: a table for people, JSON for programs, one HTML page for reading."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import PtqxError
from ..files import write_text
from .rows import COLUMNS as ROW_COLUMNS
from .rows import NUMERIC as ROW_NUMERIC
from .rows import ComparedRow, Row, cells, decibels, markdown_table

SCHEMA_VERSION = 1
COLUMNS = (*ROW_COLUMNS, "logits dB")
NUMERIC = ROW_NUMERIC | {"logits dB"}


@dataclass(frozen=True)
class Report:
    """What `compare` returns; all of it is plain values, so that JSON holds everything the page shows.

    Attributes:
        rows: one per format, the first is fp32 (see `ComparedRow`).
        info: model, dataset, numbers of test and calibration images, seed, command, date.
        machine: CPU, cores, instruction set, versions.
        speed: per format and batch size: median and quartiles in ms, rounds, throughput, speedup_vs_fp32.
        coverage: per integer format, one entry per operation: how it runs and why.
        sqnr: per integer format and layer: the ratio in dB, of the weights alone and of the layer's output.
        distributions: of weights and layer inputs, float (see `Distribution`).

    >>> import ptqx.study
    >>> report = Report(rows=[], info={"model": "cnn"}, machine={})
    >>> Report.from_json(report.to_json()).info
    {'model': 'cnn'}
    """

    rows: list[ComparedRow]
    info: dict[str, Any]
    machine: dict[str, Any]
    speed: list[dict[str, Any]] = field(default_factory=list)
    coverage: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    sqnr: list[dict[str, Any]] = field(default_factory=list)
    distributions: list[dict[str, Any]] = field(default_factory=list)

    def to_markdown(self) -> str:
        """The table; below it what the names don't say, and how it was measured."""
        table = markdown_table(COLUMNS, [line(row) for row in self.rows], NUMERIC)
        notes = [f"{row['format']}: {row['detail']}" for row in self.rows if row["detail"]]
        return "\n\n".join([table, "\n".join(notes), self.conditions()])

    def conditions(self) -> str:
        """One sentence: images, batch, threads, processor."""
        info, machine = self.info, self.machine
        parts = []
        if "test_images" in info:
            parts.append(f"{info['test_images']:,} test images")
        if "calibration_images" in info:
            parts.append(f"{info['calibration_images']:,} training images for calibration")
        if self.rows:
            first = self.rows[0]
            parts.append(f"latency of one batch of {first['batch']} on {plural(first['threads'], 'thread')}")
        if "cpu" in machine:
            parts.append(f"{machine['cpu']} ({machine.get('isa', 'unknown ISA')})")
        return "; ".join(parts)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The report as JSON, also written to `path` if given; non-finite numbers are strings ("inf")."""
        text = (
            json.dumps({"schema": SCHEMA_VERSION, **plain_values(asdict(self))}, indent=2, allow_nan=False)
            + "\n"
        )
        if path is not None:
            write_text(path, text)
        return text

    @staticmethod
    def from_json(text: str) -> Report:
        """The report of `to_json`.

        Raises:
            PtqxError: no JSON, or not that of a report.
        """
        try:
            values = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise PtqxError(f"not JSON: {error}") from error
        if not isinstance(values, dict) or not isinstance(values.get("rows"), list):
            raise PtqxError("not the JSON of a comparison: an object with a list of rows is expected")
        if values.pop("schema", None) != SCHEMA_VERSION:
            raise PtqxError(f"not the JSON of this version of ptqx: schema {SCHEMA_VERSION} is expected")
        known = {f.name: f.type for f in fields(Report)}
        if unknown := sorted(values.keys() - known.keys()):
            raise PtqxError(f"not the JSON of a comparison: unknown key {unknown[0]!r}")
        for row in values["rows"]:
            missing = sorted(Row.__annotations__.keys() - (row.keys() if isinstance(row, dict) else set()))
            if missing:
                raise PtqxError(f"a row of the comparison lacks {', '.join(missing)}")
            row.setdefault("sqnr_db", None)  # reports were written without it
        try:
            return Report(**values)
        except TypeError as error:
            raise PtqxError(f"not the JSON of a comparison: {error}") from error

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """One page with tables and figures that loads nothing else, also written to `path` if given.

        Raises:
            PtqxError: matplotlib is not installed.
        """
        from .page import render

        text = render(self)
        if path is not None:
            write_text(path, text)
        return text

    def to_plot(self, path: str | os.PathLike[str]) -> None:
        """Accuracy, SQNR, file size and latency of every format, and how it is executed, in one figure: .png,
        .svg or .pdf.

        Raises:
            PtqxError: another suffix, no rows, or matplotlib is not installed.
        """
        from . import plots

        plots.check_plot_name(path)
        if not self.rows:
            raise PtqxError("plot: the comparison has no rows")
        plots.save(plots.accuracy_and_cost(self.rows), path)

    def __repr__(self) -> str:
        return self.to_markdown()

    def _repr_html_(self) -> str:
        from .page import render_table

        return render_table(self)


def line(row: ComparedRow) -> list[str]:
    """A row as text, in the order of COLUMNS."""
    return [*cells(row), decibels(row["sqnr_db"])]


def read_report(path: str | os.PathLike[str]) -> Report:
    """The report that `to_json` wrote to `path`."""
    try:
        return Report.from_json(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PtqxError(f"can't read {path}: {error}") from error
    except PtqxError as error:
        raise PtqxError(f"{path}: {error}") from error


def plural(count: int, noun: str) -> str:
    """
    >>> plural(1, "thread"), plural(2, "thread")
    ('1 thread', '2 threads')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def plain_values(value: Any) -> Any:
    """Ready for JSON: keys are text, tuples lists, non-finite numbers strings ("inf")."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): plain_values(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_values(inner) for inner in value]
    return value
