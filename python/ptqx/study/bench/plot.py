"""The speeds of a bench as bars."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ...errors import PtqxError
from .. import plots
from .report import BenchReport, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS, PEER, FLOAT = "#0072b2", "#e69f00", "#8b949e"
PANELS_A_LINE = 3


def save_plot(report: BenchReport, path: str | os.PathLike[str]) -> None:
    """Write `speed_bars` as .png, .svg or .pdf.

    Raises:
        PtqxError: another suffix, nothing was measured, or matplotlib is missing.
    """
    plots.check_plot_name(path)
    if not report.rows:
        raise PtqxError("plot: no engine ran")
    plots.save(speed_bars(report), path)


@plots.styled
def speed_bars(report: BenchReport) -> Figure:
    """One panel for each model, batch size and number of threads: images per second of each engine, with the
    quartiles of the rounds and the ratio to the best int8 peer."""
    from matplotlib.figure import Figure

    panels: dict[tuple[str, int, int], list[Row]] = {}
    for row in report.rows:
        panels.setdefault((row["model"], row["batch"], row["threads"]), []).append(row)
    names = list(dict.fromkeys(row["engine"] for row in report.rows))
    columns = min(PANELS_A_LINE, len({row["batch"] for row in report.rows}))
    lines = -(-len(panels) // columns)
    size = (0.8 + 4.2 * columns, 0.8 + (0.7 + 0.26 * len(names)) * lines)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flatten()
    for spare in axes[len(panels) :]:
        spare.set_visible(False)
    for number, ((model, batch, threads), rows) in enumerate(panels.items()):
        title = f"{model}, batch {batch}, {threads} thread{'s' if threads > 1 else ''}"
        _draw(axes[number], rows, names)
        axes[number].set_title(title, loc="left", fontsize=10)
        axes[number].tick_params(axis="y", labelleft=number % columns == 0)
    figure.supxlabel("images per second; ratio to the best int8 peer; whiskers: quartiles", fontsize=9.5)
    return figure


def _draw(axes: Axes, rows: list[Row], names: list[str]) -> None:
    from matplotlib.ticker import MaxNLocator

    speeds = [row["images_per_second"] for row in rows]
    low = [s - 1e3 * r["batch"] / r["upper_quartile_ms"] for s, r in zip(speeds, rows, strict=True)]
    high = [1e3 * r["batch"] / r["lower_quartile_ms"] - s for s, r in zip(speeds, rows, strict=True)]
    lines = [names.index(row["engine"]) for row in rows]
    axes.barh(
        lines,
        speeds,
        xerr=(low, high),
        height=0.66,
        color=[_color(row) for row in rows],
        error_kw={"ecolor": plots.INK, "elinewidth": 1.0, "capsize": 2},
    )
    for line, row, speed, more in zip(lines, rows, speeds, high, strict=True):
        ratio = row["ratio_to_best_peer"]
        label = f"{speed:,.0f}" + ("" if ratio is None else f"  {ratio:.2f}x")
        axes.annotate(
            label, (speed + more, line), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8
        )
    axes.set_xlim(0, 1.4 * max(speeds))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


def _color(row: Row) -> str:
    if row["arithmetic"] in ("fp32", "bf16"):
        return FLOAT
    return OURS if row["engine"].startswith("ptqx") else PEER
