"""What `bench` found, for people and for programs."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypedDict

from ...files import write_text
from ..rows import file_size, markdown_table


class Row(TypedDict):
    """One model, batch size, number of threads and engine.

    images_per_second: from the median.
    median_ms, lower_quartile_ms, upper_quartile_ms: of the time of one batch, over the rounds.
    ratio_to_best_peer: speed against the fastest int8 engine of others; None if none ran.
    ratio_to_torch_fp32: speed against torch.compile'd float32; None if it did not run.
    sqnr_db: of the logits against the float model's, as a sign that the same network was computed.
    """

    model: str
    batch: int
    threads: int
    engine: str
    arithmetic: str
    images_per_second: float
    median_ms: float
    lower_quartile_ms: float
    upper_quartile_ms: float
    rounds: int
    ratio_to_best_peer: float | None
    ratio_to_torch_fp32: float | None
    sqnr_db: float
    detail: str


HEADER = (
    "model",
    "batch",
    "threads",
    "engine",
    "images/s",
    "ms/batch [quartiles]",
    "vs best peer",
    "vs torch fp32",
    "SQNR dB",
    "set-up",
)
MEMORY_HEADER = ("model", "batch", "threads", "engine", "file", "weights", "activations", "total", "of fp32")
CEILING_HEADER = ("threads", "u8 x s8 GMAC/s", "fp32 GMAC/s", "read GB/s", "copy GB/s")
STEP_HEADER = (
    "model",
    "batch",
    "step",
    "operation",
    "kernel",
    "strategy",
    "us",
    "time %",
    "useful GMAC/s",
    "of ceiling",
    "nominal GMAC/s",
    "nominal of ceiling",
)
TEXT_COLUMNS = {"model", "engine", "set-up", "step", "operation", "kernel", "strategy"}


@dataclass(frozen=True)
class BenchReport:
    """Result of `bench`.

    Attributes:
        rows: the speed of every engine that ran.
        ceilings: for each number of threads, what the machine does at most in a second: `u8s8_macs`,
            `f32_macs`, `read_bytes`, `copy_bytes`.
        memory: bytes a run holds, for the engines that can tell.
        steps: of ptqx's engine on one thread, if asked for.
        skipped: engines that did not run, and why.
        machine, info: what it was measured on, and how.
    """

    info: dict[str, Any]
    machine: dict[str, Any]
    ceilings: list[dict[str, Any]]
    rows: list[Row] = field(default_factory=list)
    memory: list[dict[str, Any]] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write everything as JSON; a number that is not finite is null."""
        write_text(path, json.dumps(_finite(asdict(self)), indent=2, allow_nan=False) + "\n")

    def to_markdown(self) -> str:
        """Tables with a line about the machine before them and one for each skipped engine after them."""
        parts = [self._machine_line(), _table(CEILING_HEADER, map(_ceiling_cells, self.ceilings))]
        if self.rows:
            parts.append(_table(HEADER, map(_cells, self.rows)))
        if self.memory:
            parts.append(_table(MEMORY_HEADER, (self._memory_cells(entry) for entry in self.memory)))
        if self.steps:
            parts.append(_table(STEP_HEADER, map(_step_cells, self.steps)))
        parts += [f"{_place(entry)}: {entry['engine']} skipped: {entry['reason']}" for entry in self.skipped]
        return "\n\n".join(parts)

    def to_plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the speeds as bars: .png, .svg or .pdf."""
        from .plot import save_plot

        save_plot(self, path)

    def _machine_line(self) -> str:
        return (
            f"{self.machine['cpu']}, {self.machine['cores']} cores, kernels up to {self.machine['isa']}, "
            f"torch {self.machine['torch']}; {self.info['rounds']} interleaved rounds, {self.info['date']}"
        )

    def _memory_cells(self, entry: dict[str, Any]) -> list[str]:
        keys = ("model", "batch", "threads")
        of_fp32 = next(
            (
                f"{entry['total'] / other['total']:.2f}"
                for other in self.memory
                if other["engine"] == "torch-fp32" and all(other[key] == entry[key] for key in keys)
            ),
            "-",
        )
        sizes = [file_size(entry[key]) for key in ("file", "weights", "activations", "total")]
        return [entry["model"], str(entry["batch"]), str(entry["threads"]), entry["engine"], *sizes, of_fp32]


def _table(header: Sequence[str], lines: Any) -> str:
    return markdown_table(header, list(lines), frozenset(header) - TEXT_COLUMNS)


def _cells(row: Row) -> list[str]:
    return [
        row["model"],
        str(row["batch"]),
        str(row["threads"]),
        row["engine"],
        f"{row['images_per_second']:,.0f}"
        if row["images_per_second"] >= 100
        else f"{row['images_per_second']:.1f}",
        f"{row['median_ms']:.3g} [{row['lower_quartile_ms']:.3g}, {row['upper_quartile_ms']:.3g}]",
        _ratio(row["ratio_to_best_peer"]),
        _ratio(row["ratio_to_torch_fp32"]),
        f"{row['sqnr_db']:.1f}",
        row["detail"],
    ]


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x"


def _ceiling_cells(entry: dict[str, Any]) -> list[str]:
    rates = [entry[key] / 1e9 for key in ("u8s8_macs", "f32_macs", "read_bytes", "copy_bytes")]
    return [str(entry["threads"]), *(f"{rate:.1f}" for rate in rates)]


def _step_cells(entry: dict[str, Any]) -> list[str]:
    rates = ["-"] * 4
    if entry["nominal_macs"] is not None:
        rates = [
            text
            for kind in ("useful", "nominal")
            for text in (
                f"{entry[f'{kind}_macs'] / entry['seconds'] / 1e9:.1f}",
                f"{100 * entry[f'{kind}_share']:.0f} %",
            )
        ]
    return [
        entry["model"],
        str(entry["batch"]),
        entry["step"],
        entry["operation"],
        entry["kernel"],
        entry["strategy"],
        f"{1e6 * entry['seconds']:.1f}",
        f"{100 * entry['time_share']:.1f}",
        *rates,
    ]


def _place(entry: dict[str, Any]) -> str:
    if entry["batch"] is None:
        return str(entry["model"])
    return f"{entry['model']}, batch {entry['batch']}, threads {entry['threads']}"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
