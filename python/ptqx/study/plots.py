"""Figures of a report, as SVG text. Everything is drawn from the report's plain values."""

from __future__ import annotations

import functools
import io
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from ..errors import PtqxError
from ..files import atomic_write
from .labels import label_bars, label_points, shown_floor
from .rows import MIB, Row, decibels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")
Layer = TypeVar("Layer")

# Okabe and Ito's palette, readable for the colour-blind.
COLORS = {"float": "#5b6770", "ptq": "#0072b2", "qat": "#d55e00"}
LINE_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
LINE_STYLES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1, 1.5)))
FILE_FORMATS = (".png", ".svg", ".pdf")
INK, FAINT = "#24292f", "#d0d7de"
FILLINGS = {"integer": 1.0, "float": 0.4, "simulated": 0.0}
MAX_HISTOGRAMS = 20
MAX_LINES = 10  # in a figure; more are drawn as a map
MAX_NUMBERS = 12  # written side by side in a map
MOST_DB = 60.0  # beyond it a map's colour says nothing more
SQNR_PANELS = {"weight_db": "weights", "output_db": "layer outputs"}
FEW_POINTS = 10  # more of them want a larger figure
STYLE: Any = {
    "font.size": 9.5,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#eaeef2",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "ptqx",
    "svg.fonttype": "path",
}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorator: draw in this module's style, whatever the user's own is."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        try:
            import matplotlib
        except ModuleNotFoundError as error:
            raise PtqxError("figures need matplotlib: pip install 'ptqx[study]'") from error
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


@styled
def accuracy_and_cost(rows: Sequence[Row]) -> Figure:
    """Panels that share their lines: top-1 with its interval, SQNR of the logits where the rows have it, file
    size, latency where it was measured. Colours tell how a format is made, fillings how it is executed."""
    ratios = [cast(float | None, row.get("sqnr_db")) for row in rows]
    with_ratios = any(ratio is not None for ratio in ratios)
    timed = any(row["latency_ms"] is not None for row in rows)
    widths = [1.25, *[0.8] * with_ratios, 1.0, *[1.0] * timed]
    figure = blank(3.0 * sum(widths), 1.2 + 0.3 * len(rows))
    panels = list(figure.subplots(1, len(widths), sharey=True, width_ratios=widths))
    lines = range(len(rows))
    colors, faces = [COLORS[row["kind"]] for row in rows], [_face(row) for row in rows]
    bars: Any = {"color": faces, "edgecolor": colors, "height": 0.62}
    reference = rows[0]["top1"]

    low, high = zip(*(_top1_interval(row, reference) for row in rows), strict=True)
    top1 = [row["top1"] for row in rows]
    panel = panels.pop(0)
    floor = shown_floor(top1, reference)
    panel.axvline(reference, color=COLORS["float"], linewidth=1, linestyle=(0, (4, 3)))
    panel.hlines(lines, low, high, colors=colors, linewidth=2.2)
    panel.scatter(top1, lines, c=faces, edgecolors=colors, s=34, zorder=3)
    shown = [bound for bound, value in zip(low, top1, strict=True) if value >= floor]
    margin = 0.08 * max(max(high) - min(shown), 0.5)
    panel.set_xlim(min(shown) - margin, max(high) + 4 * margin)
    for place, value in enumerate(top1):
        _write_top1(panel, place, value, colors[place] if value < floor else None)
    panel.set_xlabel("top-1, % (line: 95 % interval of the drop)")
    panel.set_yticks(lines, [row["format"] for row in rows])
    panel.invert_yaxis()

    if with_ratios:
        panel = panels.pop(0)
        finite = [max(_finite(ratio), 0.0) for ratio in ratios]
        panel.barh(lines, finite, **bars)
        label_bars(panel, [decibels(ratio) for ratio in ratios], finite, logarithmic=False)
        panel.set_xlabel("SQNR of the logits, dB")

    sizes = [row["size_bytes"] for row in rows]
    unit, name = (MIB, "MiB") if max(sizes) >= MIB else (1024, "KiB")
    panel = panels.pop(0)
    panel.barh(lines, [size / unit for size in sizes], **bars)
    label_bars(panel, [f"{size / unit:.1f}" for size in sizes], [size / unit for size in sizes])
    panel.set_xlabel(f"file, {name}")

    if timed:
        latencies = [row["latency_ms"] or 0.0 for row in rows]
        panel = panels.pop(0)
        panel.barh(lines, latencies, **bars)
        labels = [
            "not measured"
            if row["latency_ms"] is None
            else f"{row['latency_ms']:.3g} ({row['speedup_vs_fp32']:.2g}x)"
            for row in rows
        ]
        label_bars(panel, labels, latencies)
        panel.set_xlabel(f"ms per batch of {rows[0]['batch']}")
    panel.set_ylim(len(rows) - 0.4, -0.6)
    for panel in figure.axes:
        panel.grid(axis="y", visible=False)
        panel.tick_params(axis="y", length=0)
    _legend(figure, rows)
    return figure


@styled
def accuracy_against(rows: Sequence[Row], cost: str = "size_bytes") -> Figure:
    """Top-1 over "size_bytes" or "latency_ms", one labelled point per format that has it; the line joins the
    Pareto front, those that no other format beats in both."""
    rows = [row for row in rows if row[cost] is not None]  # type: ignore[literal-required]
    figure = blank(7.4, 4.4) if len(rows) <= FEW_POINTS else blank(10.0, 6.6)
    axes = figure.subplots()
    unit, label = _unit(cost, [float(row[cost]) for row in rows], rows[0]["batch"])  # type: ignore[literal-required]
    costs = [float(row[cost]) / unit for row in rows]  # type: ignore[literal-required]
    reference = rows[0]["top1"]
    axes.axhline(reference, color=COLORS["float"], linewidth=1, linestyle=(0, (4, 3)))
    floor = shown_floor([row["top1"] for row in rows], reference)
    front = [(x, y) for x, y in pareto_points(costs, [row["top1"] for row in rows]) if y >= floor]
    joined = axes.plot(
        *zip(*front, strict=True),
        color=INK,
        linewidth=1,
        alpha=0.5,
        zorder=2,
        label="Pareto front",
    )
    points = []
    for row, x in zip(rows, costs, strict=True):
        low, high = _top1_interval(row, reference)
        color, below = COLORS[row["kind"]], row["top1"] < floor
        y = floor if below else row["top1"]
        if not below:
            axes.vlines(x, low, high, color=color, linewidth=1.6, alpha=0.7)
        style: Any = {"facecolor": _face(row), "edgecolor": color, "linewidth": 1.6, "zorder": 3}
        axes.scatter([x], [y], s=52, marker="v" if below else "o", **style)
        points.append((x, y, f"{row['format']} {row['top1']:.1f} %" if below else row["format"], color))
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.margins(x=0.18, y=0.15)
    axes.set_ylim(*_limits(rows, floor, reference))
    axes.set_xlabel(label)
    axes.set_ylabel("top-1, %")
    label_points(figure, axes, points)
    _legend(figure, rows, joined)
    return figure


def _write_top1(panel: Axes, line: int, value: float, off_color: str | None) -> None:
    """The number at the right end of its line; with an arrow at the left one where it lies off the axis."""
    to_line = panel.get_yaxis_transform()
    text: Any = {"transform": to_line, "va": "center", "ha": "right", "fontsize": 8.5}
    panel.text(0.995, line, f"{value:.2f}", **text)
    if off_color is not None:
        panel.plot([0.02], [line], marker="<", color=off_color, markersize=6, transform=to_line)


def _face(row: Row) -> str:
    """The filling that stands for a row's execution: full for integers, pale for float, none for
    simulated."""
    share = FILLINGS[row["execution"]]
    channels = (int(COLORS[row["kind"]][i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(255 - share * (255 - channel)):02x}" for channel in channels)


def _finite(ratio: float | str | None) -> float:
    """0 where there is no bar to draw."""
    return float(ratio) if ratio is not None and math.isfinite(float(ratio)) else 0.0


def _legend(figure: Figure, rows: Sequence[Row], further: Sequence[Any] = ()) -> None:
    """Below everything: colours, fillings, and lines that have a label of their own."""
    from matplotlib.patches import Patch

    kinds = dict.fromkeys(row["kind"] for row in rows)
    handles: list[Any] = [Patch(color=COLORS[kind], label=KIND_NAMES[kind]) for kind in kinds]
    executions = dict.fromkeys(row["execution"] for row in rows)
    tints = {"integer": INK, "float": "#a7a9ac", "simulated": "white"}
    handles += [
        Patch(facecolor=tints[name], edgecolor=INK, label=f"execution: {name}") for name in executions
    ]
    handles += further
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8.5
    )


def _limits(rows: Sequence[Row], floor: float, reference: float) -> tuple[float, float]:
    """Of top-1: all intervals of rows that are shown, and room for the names below."""
    ends = [_top1_interval(row, reference) for row in rows if row["top1"] >= floor]
    low, high = min([floor, *(low for low, _ in ends)]), max(high for _, high in ends)
    margin = max(high - low, 0.5)
    return low - 0.15 * margin, high + 0.12 * margin


def pareto_front(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """Indices of the points that no other beats in both, cheapest first.

    >>> pareto_front([4, 1, 2, 3], [70, 60, 65, 64])
    [1, 2, 0]
    """
    front: list[int] = []
    for i in sorted(range(len(costs)), key=lambda i: (costs[i], -values[i])):
        if not front or values[i] > values[front[-1]]:
            front.append(i)
    return front


def pareto_points(costs: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
    """The points of `pareto_front`, as (cost, value)."""
    return [(costs[i], values[i]) for i in pareto_front(costs, values)]


def _unit(cost: str, values: Sequence[float], batch: int) -> tuple[float, str]:
    """What to divide by, and the axis' label."""
    if cost == "latency_ms":
        return 1.0, f"ms per batch of {batch}"
    return (MIB, "file size, MiB") if max(values) >= MIB else (1024, "file size, KiB")


KIND_NAMES = {"float": "float", "ptq": "post-training", "qat": "quantization-aware training"}


@styled
def latency(rows: Sequence[Row], speed: Sequence[dict[str, Any]]) -> Figure:
    """One panel per batch size: median latency of every format, whiskers at the quartiles."""
    batches = list(dict.fromkeys(entry["batch"] for entry in speed))
    names = [row["format"] for row in rows if any(entry["format"] == row["format"] for entry in speed)]
    kinds = {row["format"]: row["kind"] for row in rows}
    figure = blank(10.0, 0.9 + 0.4 * len(names))
    for panel, batch in zip(figure.subplots(1, len(batches), squeeze=False)[0], batches, strict=True):
        entries = {e["format"]: e for e in speed if e["batch"] == batch}
        medians = [entries[name]["median_ms"] for name in names]
        below = [entries[name]["median_ms"] - entries[name]["lower_quartile_ms"] for name in names]
        above = [entries[name]["upper_quartile_ms"] - entries[name]["median_ms"] for name in names]
        panel.barh(
            range(len(names)),
            medians,
            xerr=(below, above),
            color=[COLORS[kinds[name]] for name in names],
            error_kw={"ecolor": INK, "elinewidth": 1.2, "capsize": 3},
            height=0.62,
        )
        ends = [m + a for m, a in zip(medians, above, strict=True)]
        label_bars(panel, [f"{m:.3g} ms" for m in medians], ends)
        panel.set_yticks(range(len(names)), names)
        panel.set_ylim(len(names) - 0.4, -0.6)
        panel.set_xlabel(f"ms per batch of {batch}")
        panel.grid(axis="y", visible=False)
        panel.tick_params(axis="y", length=0)
    return figure


@styled
def sqnr_per_layer(sqnr: Sequence[dict[str, Any]]) -> Figure:
    """SQNR of the weights (left) and of the layer outputs (right), one line per format; of more formats than
    lines can be told apart, a map with a row per format."""
    layers = list(dict.fromkeys(entry["layer"] for entry in sqnr))
    formats = list(dict.fromkeys(entry["format"] for entry in sqnr))
    if len(formats) > MAX_LINES:
        return _sqnr_map(sqnr, formats, layers)
    figure = blank(10.0, 3.8)
    panels = figure.subplots(1, 2, sharey=True)
    for panel, (key, title) in zip(panels, SQNR_PANELS.items(), strict=True):
        for number, name in enumerate(formats):
            points = [
                (layers.index(e["layer"]), float(e[key]))
                for e in sqnr
                if e["format"] == name and e[key] is not None and math.isfinite(float(e[key]))
            ]
            if points:
                xs, ys = zip(*points, strict=True)
                turn, place = divmod(number, len(LINE_COLORS))
                style = {"color": LINE_COLORS[place], "linestyle": LINE_STYLES[turn % len(LINE_STYLES)]}
                panel.plot(xs, ys, marker="o", markersize=4, linewidth=1.5, label=name, **style)
        panel.set_title(title, fontsize=10, loc="left")
        _layer_ticks(panel, layers)
        panel.set_ylim(bottom=0)
    panels[0].set_ylabel("SQNR, dB")
    handles, names = panels[1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper", frameon=False, fontsize=8.5)
    return figure


def _sqnr_map(sqnr: Sequence[dict[str, Any]], formats: list[str], layers: list[str]) -> Figure:
    """Formats down, layers across; written out where the cells are wide enough."""
    figure = blank(10.0, 1.4 + 0.24 * len(formats))
    panels = figure.subplots(1, 2, sharey=True)
    for panel, (key, title) in zip(panels, SQNR_PANELS.items(), strict=True):
        grid = [[math.nan] * len(layers) for _ in formats]
        for e in sqnr:
            value = math.nan if e[key] is None else float(e[key])
            grid[formats.index(e["format"])][layers.index(e["layer"])] = value
        drawn = [[min(max(value, 0.0), MOST_DB) for value in line] for line in grid]
        panel.imshow(drawn, cmap="Blues", vmin=0.0, vmax=1.4 * MOST_DB, aspect="auto")
        for y, line in enumerate(grid):
            for x, value in enumerate(line):
                if math.isfinite(value) and len(layers) <= MAX_NUMBERS:
                    panel.text(x, y, f"{value:.0f}", ha="center", va="center", fontsize=7.5)
        panel.set_title(f"{title}, dB", fontsize=10, loc="left")
        _layer_ticks(panel, layers)
        panel.set_yticks(range(len(formats)), formats)
        panel.grid(visible=False)
        panel.tick_params(length=0)
    return figure


def _layer_ticks(panel: Axes, layers: list[str]) -> None:
    step = max(1, math.ceil(len(layers) / 24))
    panel.set_xticks(range(0, len(layers), step), layers[::step], rotation=60, ha="right", fontsize=7.5)


@styled
def histograms(distributions: Sequence[dict[str, Any]]) -> Figure:
    """Small multiples; counts on a logarithmic axis, so that tails show; lines at 3 standard deviations."""
    figure, panels = small_multiples(distributions)
    for panel, d in panels:
        count = len(d["counts"])
        width = (d["high"] - d["low"]) / count
        edges = [d["low"] + i * width for i in range(count + 1)]
        color = COLORS["ptq"] if d["what"] == "weight" else COLORS["qat"]
        panel.stairs(
            [max(c, 0.5) for c in d["counts"]], edges, baseline=0.5, fill=True, color=color, alpha=0.85
        )
        for sign in (-3, 3):
            bound = d["mean"] + sign * d["std"]
            if d["low"] <= bound <= d["high"]:
                panel.axvline(bound, color=INK, linewidth=0.8, linestyle=(0, (2, 2)))
        panel.set_title(f"{d['layer']}  max/\u03c3 {d['max_over_std']:.1f}", fontsize=8, loc="left", pad=3)
    return figure


def small_multiples(layers: Sequence[Layer]) -> tuple[Figure, list[tuple[Axes, Layer]]]:
    """A panel of counts, on a logarithmic axis, for each of at most `MAX_HISTOGRAMS` layers."""
    shown = spread(layers, MAX_HISTOGRAMS)
    columns = min(5, len(shown))
    lines = math.ceil(len(shown) / columns)
    figure = blank(10.0, 0.3 + 1.45 * lines)
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    for panel in panels[len(shown) :]:
        panel.set_visible(False)
    for panel in panels[: len(shown)]:
        panel.set_yscale("log")
        panel.grid(visible=False)
        panel.tick_params(labelsize=7, length=2)
        panel.tick_params(axis="y", labelleft=False, which="both", length=0)
    return figure, list(zip(panels, shown, strict=False))


def spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most `most` of them, evenly spaced, the first and the last included.

    >>> spread(range(10), 4)
    [0, 3, 6, 9]
    """
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def svg(figure: Figure, description: str) -> str:
    """The figure as an <svg> element for a page: no header, no metadata, described for screen readers."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    label = description.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as .png, .svg or .pdf, beside and renamed.

    Raises:
        PtqxError: another suffix.
    """
    import matplotlib

    check_plot_name(path)
    with atomic_write(path) as partial, matplotlib.rc_context(STYLE):
        figure.savefig(partial, format=Path(path).suffix[1:], dpi=150)


def check_plot_name(path: str | os.PathLike[str]) -> None:
    """
    Raises:
        PtqxError: the suffix is none that can be drawn.
    """
    if Path(path).suffix not in FILE_FORMATS:
        raise PtqxError(f"plot: expected a file name that ends in {', '.join(FILE_FORMATS)}, got {path}")


def blank(width: float, height: float) -> Figure:
    """A figure of `width` by `height` inches that belongs to no window system."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _top1_interval(row: Row, reference: float) -> tuple[float, float]:
    low, high = row["drop_ci95"]
    return reference - high, reference - low
