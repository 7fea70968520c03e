"""One line of a comparison, and how it is written for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, cast

import torch
from torch import Tensor

from ..train import Evaluation
from .bootstrap import paired_drop_interval

MIB = 2**20
NOT_MEASURED = "not measured"


class Row(TypedDict):
    """What `compare` found for one format.

    format: the name that was asked for.
    kind: "float", "ptq" or "qat".
    execution: "float", "integer", or "simulated" (computed in float32 on rounded values).
    top1, drop, drop_ci95: percent points; drop is fp32's top-1 minus this one's, with its 95 % interval.
    agreement: percent of test images with the same top-1 class as fp32.
    size_bytes: of the file that was written.
    latency_ms: median time of one forward pass of `batch` images; None where it would mean nothing.
    throughput: images per second. speedup_vs_fp32: ratio of latencies.
    batch, threads, isa: how it was measured.
    coverage: percent of the multiply-accumulates that are done on integers.
    detail: what the name does not say.
    """

    format: str
    kind: str
    execution: str
    top1: float
    drop: float
    drop_ci95: list[float]
    agreement: float
    size_bytes: int
    latency_ms: float | None
    throughput: float | None
    speedup_vs_fp32: float | None
    batch: int
    threads: int
    isa: str
    coverage: float
    detail: str


class ComparedRow(Row):
    """A row of one run of `compare`, which has the logits of both networks at hand.

    sqnr_db: of the logits against fp32's over all test images, 10 log10(sum y^2 / sum (y - y_q)^2), dB; inf
    where they are equal; None for fp32 itself. It tells formats apart whose top-1 is the same.
    """

    sqnr_db: float | None


def row_of(values: Mapping[str, Any]) -> ComparedRow:
    """The values as a row, in the order of its keys."""
    return cast(ComparedRow, {key: values[key] for key in ComparedRow.__annotations__})


def accuracy_columns(reference: Evaluation, evaluation: Evaluation, seed: int = 0) -> dict[str, Any]:
    """The accuracy part of a row: `evaluation` against the float model's `reference` on the same images."""
    interval = paired_drop_interval(_correct(reference), _correct(evaluation), seed=seed)
    agreement = 100.0 * (evaluation.predictions == reference.predictions).double().mean().item()
    return {
        "top1": evaluation.top1,
        "drop": reference.top1 - evaluation.top1,
        "drop_ci95": list(interval),
        "agreement": agreement,
    }


def _correct(evaluation: Evaluation) -> Tensor:
    return torch.eq(evaluation.predictions, evaluation.labels)


COLUMNS = (
    "format",
    "kind",
    "execution",
    "top-1 %",
    "drop [95 % interval]",
    "agreement %",
    "size",
    "ms/batch",
    "images/s",
    "speed-up",
    "integer MACs %",
)
NUMERIC = frozenset(COLUMNS) - {"format", "kind", "execution"}


def cells(row: Row) -> list[str]:
    """The row as text, in the order of COLUMNS; its `detail` is left to a note."""
    low, high = row["drop_ci95"]
    return [
        row["format"],
        row["kind"],
        row["execution"],
        f"{row['top1']:.2f}",
        "-" if row["format"] == "fp32" else f"{signed(row['drop'])} [{signed(low)}, {signed(high)}]",
        f"{row['agreement']:.2f}",
        file_size(row["size_bytes"]),
        NOT_MEASURED if row["latency_ms"] is None else f"{row['latency_ms']:.3g}",
        "-" if row["throughput"] is None else f"{row['throughput']:,.0f}",
        "-" if row["speedup_vs_fp32"] is None else f"{row['speedup_vs_fp32']:.2f}x",
        f"{row['coverage']:.1f}",
    ]


def decibels(value: float | str | None) -> str:
    """One decimal; "-" where there is nothing to compare with, or nothing was lost.

    >>> decibels(31.42), decibels(None), decibels(float("inf")), decibels("inf")
    ('31.4', '-', '-', '-')
    """
    return "-" if value is None or not math.isfinite(float(value)) else f"{float(value):.1f}"


def signed(value: float) -> str:
    """Two decimals, always signed, no negative zero.

    >>> signed(0.5), signed(-0.001), signed(-1.25)
    ('+0.50', '0.00', '-1.25')
    """
    return "0.00" if abs(value) < 0.005 else f"{value:+.2f}"


def file_size(size: int) -> str:
    """Binary units, one decimal.

    >>> file_size(19_605_192), file_size(9_830), file_size(512), file_size(2**33)
    ('18.7 MiB', '9.6 KiB', '512 B', '8.0 GiB')
    """
    if size < 1024:
        return f"{size} B"
    unit, name = next((u, n) for u, n in ((2**30, "GiB"), (MIB, "MiB"), (1024, "KiB")) if size >= u)
    return f"{size / unit:.1f} {name}"


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]], numeric: frozenset[str]) -> str:
    """A Markdown table whose columns are also aligned as plain text.

    >>> print(markdown_table(["name", "n"], [["a", "1"], ["bcdef", "20"]], frozenset({"n"})))
    | name  |   n |
    |:------|----:|
    | a     |   1 |
    | bcdef |  20 |
    """
    safe = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    widths = [max(3, *(len(line[i]) for line in [list(header), *safe])) for i in range(len(header))]

    def joined(line: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if name in numeric else cell.ljust(width)
            for cell, width, name in zip(line, widths, header, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rule = "|".join(
        f"{'-' * (width + 1)}:" if name in numeric else f":{'-' * (width + 1)}"
        for width, name in zip(widths, header, strict=True)
    )
    return "\n".join([joined(header), f"|{rule}|", *(joined(line) for line in safe)])
