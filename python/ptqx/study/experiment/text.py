"""A study's table and verdicts as text."""

from __future__ import annotations

from itertools import compress
from typing import TYPE_CHECKING

from ..rows import COLUMNS as ROW_COLUMNS
from ..rows import NUMERIC as ROW_NUMERIC
from ..rows import cells, decibels, markdown_table, signed
from .part import Values

if TYPE_CHECKING:
    from .results import Results

DECIBELS = "logits dB"
COLUMNS = (*ROW_COLUMNS, DECIBELS, "runs", "drop against control")
NUMERIC = ROW_NUMERIC | {DECIBELS, "runs", "drop against control"}
CLAIM_COLUMNS = ("claim", "verdict", "value [95 % interval]")


def markdown(results: Results) -> str:
    """Both as tables."""
    claims = [[v["claim"], v["verdict"], interval_text(v)] for v in results.verdicts]
    columns, lines = columns_and_lines(results.rows)
    return "\n\n".join(
        [
            markdown_table(columns, lines, NUMERIC),
            markdown_table(CLAIM_COLUMNS, claims, frozenset({CLAIM_COLUMNS[2]})),
        ]
    )


def columns_and_lines(rows: list[Values]) -> tuple[list[str], list[list[str]]]:
    """The table's header and lines; without logits dB where no row knows it."""
    shown = [name != DECIBELS or any(row.get("logits_db") is not None for row in rows) for name in COLUMNS]
    lines = [list(compress(line(row), shown)) for row in rows]
    return list(compress(COLUMNS, shown)), lines


def line(row: Values) -> list[str]:
    """A row as text, in the order of COLUMNS."""
    runs = f"{len(row['seeds'])}"
    if len(row["seeds"]) > 1:
        runs += f": {min(row['top1_runs']):.2f} to {max(row['top1_runs']):.2f}"
    control = "-"
    if "drop_control" in row:
        low, high = row["drop_control_ci95"]
        control = f"{signed(row['drop_control'])} [{signed(low)}, {signed(high)}]"
    return [*cells(row), decibels(row.get("logits_db")), runs, control]  # type: ignore[arg-type]


def interval_text(verdict: Values) -> str:
    """
    Value and interval with the unit; the value alone where it is exact.

    >>> interval_text({"value": 0.5, "low": 0.25, "high": 0.75, "unit": "points of top-1"})
    '+0.5 [+0.25, +0.75] points of top-1'
    >>> interval_text({"value": 3, "low": 3, "high": 3, "unit": "layers"}), interval_text({"value": None})
    ('3 layers', '-')
    """
    if verdict["value"] is None:
        return "-"
    value, low, high = (verdict[key] for key in ("value", "low", "high"))
    if low == high == value:
        return f"{value:.3g} {verdict['unit']}".strip()
    sign = "" if verdict["unit"] == "times" else "+"
    return f"{value:{sign}.3g} [{low:{sign}.3g}, {high:{sign}.3g}] {verdict['unit']}".strip()
