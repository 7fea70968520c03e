"""What the pipeline prune, distil, quantize found, step by step."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import nn

from ..files import write_text
from ..graph import IntegerModel
from .rows import file_size, markdown_table, signed


@dataclass(frozen=True)
class PruneRow:
    """One step: top1, drop and interval in percent points against the float network; zeros in percent of the
    weights; bytes of the file, and of the compressed .ptqx file; milliseconds of a batch, None where it is
    that of another row."""

    step: str
    execution: str
    top1: float
    drop: float
    drop_ci95: list[float]
    parameters: int
    zeros: float
    macs: int
    size_bytes: int
    compressed_bytes: int | None
    latency_ms: float | None


@dataclass(frozen=True, eq=False)
class PruneResult:
    """A row for every step; the float and the integer network at the end; `batch` images were timed."""

    rows: list[PruneRow]
    model: nn.Module
    integer: IntegerModel
    batch: int
    threads: int

    def to_markdown(self) -> str:
        header = ["step", "execution", "top-1 %", "drop [95 % interval]", "parameters", "zeros %"]
        header += ["MACs", "size", "gzip", f"ms/{self.batch}", "speed-up"]
        return markdown_table(header, [self._cells(row) for row in self.rows], frozenset(header[2:]))

    def to_json(self, path: str | Path) -> None:
        content = {"batch": self.batch, "threads": self.threads, "rows": [asdict(row) for row in self.rows]}
        write_text(path, json.dumps(content, indent=2) + "\n")

    def _cells(self, row: PruneRow) -> list[str]:
        low, high = row.drop_ci95
        first = self.rows[0].latency_ms
        timed = row.latency_ms is not None and first is not None
        return [
            row.step,
            row.execution,
            f"{row.top1:.2f}",
            "-" if row is self.rows[0] else f"{signed(row.drop)} [{signed(low)}, {signed(high)}]",
            f"{row.parameters:,}",
            f"{row.zeros:.1f}",
            f"{row.macs:,}",
            file_size(row.size_bytes),
            "-" if row.compressed_bytes is None else file_size(row.compressed_bytes),
            f"{row.latency_ms:.3g}" if row.latency_ms is not None else "-",
            f"{first / row.latency_ms:.2f}x" if timed else "-",  # type: ignore[operator]
        ]
