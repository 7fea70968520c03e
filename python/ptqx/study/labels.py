"""Where a figure's texts go: beside bars, beside points, and beyond an axis that does not show everything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LETTER, LINE = 0.075, 0.16  # inches that a letter is wide and a line is high, at 8.5 points
MARKER = 0.008  # half a point's width, in axes' lengths
LEAST_SPAN = 3.0  # percent points of top-1 that are shown at least
LOG_SPREAD = 50.0  # costs that differ by more are told apart on a logarithmic axis alone

Point = tuple[float, float, str, str]


def shown_floor(values: Sequence[float], reference: float) -> float:
    """The least value that an axis shows: a network or two at chance must not squeeze all others into a line.

    1.5 times the drop that three quarters of the values stay within, and LEAST_SPAN points; all of them where
    that is nearly all there is.

    >>> shown_floor([99.2, 99.1, 98.5, 98.9, 27.9], 99.2)
    96.2
    >>> shown_floor([99.2, 98.5, 95.5], 99.2)
    95.5
    """
    drops = reference - np.asarray(values, float)
    span = max(LEAST_SPAN, 1.5 * float(np.quantile(drops, 0.75)))
    worst = float(drops.max())
    return round(reference - (worst if worst <= 1.5 * span else span), 6)


def label_bars(axes: Axes, labels: Iterable[str], ends: Sequence[float], logarithmic: bool = True) -> None:
    """A text at the end of each horizontal bar; the axis becomes `logarithmic`, if it may, where the bars
    need it."""
    largest = max(*ends, 1e-9)
    drawn = [end for end in ends if end > 0]
    if logarithmic and drawn and largest > LOG_SPREAD * min(drawn):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        low = min(drawn) / 2
        axes.set_xlim(low, largest * (largest / low) ** 0.55)
    else:
        low = 0.0
        axes.set_xlim(low, 1.38 * largest)
    for line, (label, end) in enumerate(zip(labels, ends, strict=True)):
        axes.annotate(
            label, (max(end, low), line), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5
        )


def label_points(figure: Figure, axes: Axes, points: Sequence[Point]) -> None:
    """Names (x, y, name, color) beside their points on a logarithmic x axis.

    One that would cover another name or point moves down, or up where there is no room below, and a line
    leads back to its point; one that would leave the axes stands on the other side.
    """
    box = figure.get_size_inches()
    width, height = LETTER / (0.88 * box[0]), LINE / (0.72 * box[1])  # in axes' lengths
    axes.autoscale_view()
    to_axes = axes.transAxes.inverted()
    places = [to_axes.transform(axes.transData.transform(point[:2])) for point in points]
    placed = [(px - MARKER, px + MARKER, py) for px, py in places]
    for index in sorted(range(len(points)), key=lambda i: -points[i][1]):
        (px, py), (name, color) = places[index], points[index][2:]
        reach = width * len(name)
        left = px + 0.015 if px + 0.015 + reach < 1 else px - 0.015 - reach
        row = _free_row(placed, left, left + reach, py, height)
        placed.append((left, left + reach, row))
        if abs(row - py) > height / 2:
            axes.plot([px, left], [py, row], transform=axes.transAxes, color=color, linewidth=0.5, alpha=0.5)
        label = axes.text(
            left, row, name, transform=axes.transAxes, va="center", color=color, fontsize=8.5, zorder=4
        )
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8})


def _free_row(
    placed: Sequence[tuple[float, float, float]], left: float, right: float, row: float, height: float
) -> float:
    """The nearest height at or below `row`, or above it, at which no text lies between left and right."""
    for step in (-height / 4, height / 4):
        free = row
        while any(left < b and a < right and abs(free - q) < height for a, b, q in placed):
            free += step
        if free > height / 2:
            return free
    return free
