"""Figures of a report, as SVG text. Everything is drawn from the report's plain values."""

from __future__ import annotations

import functools
import io
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ..errors import PtqxError
from .rows import MIB, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")
Layer = TypeVar("Layer")

# Okabe and Ito's palette, readable for the colour-blind.
COLORS = {"float": "#5b6770", "ptq": "#0072b2", "qat": "#d55e00"}
LINE_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
LINE_STYLES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1, 1.5)))
INK, FAINT = "#24292f", "#d0d7de"
MAX_HISTOGRAMS = 20
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
    """Three panels that share their lines: top-1 with its interval, file size, latency."""
    figure = blank(10.0, 0.9 + 0.36 * len(rows))
    panels = figure.subplots(1, 3, sharey=True, width_ratios=(1.25, 1, 1))
    lines = range(len(rows))
    colors = [COLORS[row["kind"]] for row in rows]
    reference = rows[0]["top1"]

    low, high = zip(*(_top1_interval(row, reference) for row in rows), strict=True)
    top1 = [row["top1"] for row in rows]
    panels[0].axvline(reference, color=COLORS["float"], linewidth=1, linestyle=(0, (4, 3)))
    panels[0].hlines(lines, low, high, colors=colors, linewidth=2.2)
    panels[0].scatter(top1, lines, c=colors, s=34, zorder=3)
    margin = 0.08 * max(max(high) - min(low), 0.5)
    panels[0].set_xlim(min(low) - margin, max(high) + margin)
    panels[0].set_xlabel("top-1, % (line: 95 % interval of the drop)")
    panels[0].set_yticks(lines, [row["format"] for row in rows])
    panels[0].invert_yaxis()

    sizes = [row["size_bytes"] for row in rows]
    unit, name = (MIB, "MiB") if max(sizes) >= MIB else (1024, "KiB")
    panels[1].barh(lines, [size / unit for size in sizes], color=colors, height=0.62)
    _label_bars(panels[1], [f"{size / unit:.1f}" for size in sizes], [size / unit for size in sizes])
    panels[1].set_xlabel(f"file, {name}")

    latencies = [row["latency_ms"] or 0.0 for row in rows]
    panels[2].barh(lines, latencies, color=colors, height=0.62)
    labels = [
        "not measured"
        if row["latency_ms"] is None
        else f"{row['latency_ms']:.3g} ({row['speedup_vs_fp32']:.1f}x)"
        for row in rows
    ]
    _label_bars(panels[2], labels, latencies)
    panels[2].set_xlabel(f"ms per batch of {rows[0]['batch']}")
    for panel in panels:
        panel.grid(axis="y", visible=False)
        panel.tick_params(axis="y", length=0)
    return figure


@styled
def accuracy_against(rows: Sequence[Row], cost: str = "size_bytes") -> Figure:
    """Top-1 over "size_bytes" or "latency_ms", one labelled point per format that has it; the line joins the
    Pareto front, those that no other format beats in both."""
    rows = [row for row in rows if row[cost] is not None]  # type: ignore[literal-required]
    figure = blank(7.4, 4.4)
    axes = figure.subplots()
    unit, label = _unit(cost, [float(row[cost]) for row in rows], rows[0]["batch"])  # type: ignore[literal-required]
    costs = [float(row[cost]) / unit for row in rows]  # type: ignore[literal-required]
    reference = rows[0]["top1"]
    axes.axhline(reference, color=COLORS["float"], linewidth=1, linestyle=(0, (4, 3)))
    front = pareto_front(costs, [row["top1"] for row in rows])
    axes.plot(
        [costs[i] for i in front],
        [rows[i]["top1"] for i in front],
        color=INK,
        linewidth=1,
        alpha=0.5,
        zorder=2,
    )
    for row, x in zip(rows, costs, strict=True):
        low, high = _top1_interval(row, reference)
        color = COLORS[row["kind"]]
        axes.vlines(x, low, high, color=color, linewidth=1.6, alpha=0.7)
        face = "white" if row["execution"] == "simulated" else color
        axes.scatter([x], [row["top1"]], s=52, facecolor=face, edgecolor=color, linewidth=1.6, zorder=3)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.margins(x=0.18, y=0.15)
    axes.set_xlabel(label)
    axes.set_ylabel("top-1, %")
    points = zip(costs, rows, strict=True)
    _label_points(figure, axes, [(x, r["top1"], r["format"], COLORS[r["kind"]]) for x, r in points])
    kinds = dict.fromkeys(row["kind"] for row in rows)
    handles: list[Any] = [axes.scatter([], [], color=COLORS[kind], label=KIND_NAMES[kind]) for kind in kinds]
    if any(row["execution"] == "simulated" for row in rows):
        handles.append(axes.scatter([], [], facecolor="white", edgecolor=INK, label="simulated"))
    handles += axes.plot([], [], color=INK, linewidth=1, alpha=0.5, label="Pareto front")
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8.5
    )
    return figure


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
        _label_bars(panel, [f"{m:.3g} ms" for m in medians], ends)
        panel.set_yticks(range(len(names)), names)
        panel.invert_yaxis()
        panel.set_xlabel(f"ms per batch of {batch}")
        panel.grid(axis="y", visible=False)
        panel.tick_params(axis="y", length=0)
    return figure


@styled
def sqnr_per_layer(sqnr: Sequence[dict[str, Any]]) -> Figure:
    """SQNR of the weights (left) and of the layer outputs (right), one line per format."""
    layers = list(dict.fromkeys(entry["layer"] for entry in sqnr))
    figure = blank(10.0, 3.8)
    panels = figure.subplots(1, 2, sharey=True)
    for panel, key, title in zip(
        panels, ("weight_db", "output_db"), ("weights", "layer outputs"), strict=True
    ):
        for number, name in enumerate(dict.fromkeys(entry["format"] for entry in sqnr)):
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
        step = max(1, math.ceil(len(layers) / 24))
        panel.set_xticks(range(0, len(layers), step), layers[::step], rotation=60, ha="right", fontsize=7.5)
        panel.set_ylim(bottom=0)
    panels[0].set_ylabel("SQNR, dB")
    handles, names = panels[1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper", frameon=False, fontsize=8.5)
    return figure


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


def blank(width: float, height: float) -> Figure:
    """A figure of `width` by `height` inches that belongs to no window system."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _top1_interval(row: Row, reference: float) -> tuple[float, float]:
    low, high = row["drop_ci95"]
    return reference - high, reference - low


def _label_bars(axes: Axes, labels: Iterable[str], ends: Sequence[float]) -> None:
    axes.set_xlim(0, 1.38 * max(*ends, 1e-9))
    for line, (label, end) in enumerate(zip(labels, ends, strict=True)):
        axes.annotate(
            label, (end, line), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5
        )


def _label_points(figure: Figure, axes: Axes, points: Sequence[tuple[float, float, str, str]]) -> None:
    """Names beside their points on a logarithmic x axis; one that would cover another moves down, and one
    that would leave the axes stands on the other side."""
    box = figure.get_size_inches()
    width, height = 0.075 / (0.88 * box[0]), 0.16 / (0.72 * box[1])  # of a letter, in axes' lengths
    axes.autoscale_view()
    placed: list[tuple[float, float, float]] = []
    for x, y, name, color in sorted(points, key=lambda p: -p[1]):
        px, py = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))
        reach = width * len(name)
        left = px + 0.015 if px + 0.015 + reach < 1 else px - 0.015 - reach
        while any(left < b and a < left + reach and abs(py - q) < height for a, b, q in placed):
            py -= height / 4
        placed.append((left, left + reach, py))
        label = axes.text(
            left, py, name, transform=axes.transAxes, va="center", color=color, fontsize=8.5, zorder=4
        )
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8})
