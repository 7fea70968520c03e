"""Figures of a study, drawn from its stored values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..plots import COLORS, FAINT, INK, LINE_COLORS, blank, small_multiples, styled
from .part import Values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DASHED = (0, (4, 3))
TYPE_COLORS = {"fp32": COLORS["float"], "fp16": "#009e73", "bf16": "#cc79a7"}
OP_COLORS = {"conv2d": COLORS["ptq"], "linear": COLORS["qat"]}


@styled
def accuracy_against_bits(curves: Sequence[Values], reference: float) -> Figure:
    """Top-1 over bits: one line with its 95 % interval per curve (name, kind, bits, top1, low, high)."""
    figure = blank(7.0, 4.0)
    axes = figure.subplots()
    axes.axhline(reference, color=COLORS["float"], linewidth=1, linestyle=DASHED, label="fp32")
    for number, curve in enumerate(curves):
        color = COLORS["qat"] if curve["kind"] == "qat" else LINE_COLORS[(0, 2, 5)[number % 3]]
        axes.fill_between(curve["bits"], curve["low"], curve["high"], color=color, alpha=0.15, linewidth=0)
        marker = "o" if curve["kind"] == "ptq" else "D"
        axes.plot(curve["bits"], curve["top1"], marker=marker, markersize=5, color=color, label=curve["name"])
        if curve["kind"] == "qat":
            axes.vlines(curve["bits"], curve["low"], curve["high"], color=color, linewidth=1.6)
    axes.invert_xaxis()
    axes.set_xticks(sorted({b for curve in curves for b in curve["bits"]}, reverse=True))
    axes.set_xlabel("bits")
    axes.set_ylabel("top-1, %")
    axes.legend(frameon=False, fontsize=8.5, loc="lower left")
    return figure


@styled
def scaling_law(laws: Sequence[Values]) -> Figure:
    """Loss over bits with the fitted law; below what the fit leaves, with standard errors."""
    figure = blank(7.0, 4.6)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2.4, 1))
    for number, law in enumerate(laws):
        color = LINE_COLORS[(0, 2, 5)[number % 3]]
        b = np.linspace(min(law["bits"]), max(law["bits"]), 120)
        curve = law["floor"] + law["size"] * np.exp2(-law["rate"] * b)
        name = f"{law['family']}: {law['floor']:.3f} + {law['size']:.3g} \u00b7 2^(-{law['rate']:.2f} b)"
        top.plot(b, curve, color=color, linewidth=1.4, label=name)
        top.scatter(law["bits"], law["losses"], color=color, s=26, zorder=3)
        bottom.errorbar(
            law["bits"], law["residuals"], yerr=law["errors"], color=color, fmt="o", markersize=4, capsize=2
        )
    top.set_yscale("log")
    top.yaxis.set_minor_formatter("{x:.3g}")
    top.yaxis.set_major_formatter("{x:.3g}")
    top.tick_params(axis="y", which="minor", labelsize=7.5)
    top.set_ylabel("loss, nats")
    top.legend(frameon=False, fontsize=8.5)
    bottom.axhline(0, color=INK, linewidth=0.8)
    bottom.set_ylabel("residual")
    bottom.set_xlabel("bits")
    bottom.invert_xaxis()
    return figure


@styled
def training(rows: Sequence[Values], lines: dict[str, dict[str, float]]) -> Figure:
    """One panel per QAT row: test top-1 of the integer network after each epoch, one curve per seed.

    Args:
        lines: row to what is drawn across its panel: name to top-1.
    """
    columns = min(4, len(rows))
    height = math.ceil(len(rows) / columns)
    figure = blank(min(10.0, 3.4 * columns + 0.6), 2.7 * height + 0.2)
    panels = figure.subplots(height, columns, squeeze=False).flatten()
    for panel in panels[len(rows) :]:
        panel.set_visible(False)
    for panel, row in zip(panels, rows, strict=False):
        for history in row["history"]:
            xs, ys = [line["epoch"] for line in history], [line["test_top1"] for line in history]
            panel.plot(xs, ys, color=COLORS["qat"], marker="D", markersize=3.5, linewidth=1.3)
        for name, value in lines[row["format"]].items():
            color = COLORS["float"] if name == "fp32" else COLORS["ptq"]
            panel.axhline(value, color=color, linewidth=1.1, linestyle=DASHED, label=name)
        panel.set_title(row["format"], fontsize=10, loc="left")
        panel.set_xlabel("epoch")
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.legend(frameon=False, fontsize=8)
    panels[0].set_ylabel("top-1, %")
    return figure


@styled
def before_and_after(layers: Sequence[Values]) -> Figure:
    """Small multiples: float values as an area, what quantization makes of them as lines."""
    figure, panels = small_multiples(layers)
    for panel, layer in panels:
        edges = np.linspace(layer["low"], layer["high"], len(layer["counts"]) + 1)
        panel.stairs(np.maximum(layer["float_counts"], 0.5), edges, baseline=0.5, fill=True, color=FAINT)
        kind = COLORS["ptq"] if layer["what"] == "weight" else COLORS["qat"]
        panel.stairs(np.maximum(layer["counts"], 0.5), edges, baseline=0.5, color=kind, linewidth=0.9)
        panel.set_title(f"{layer['layer']}, {layer['what']}", fontsize=8, loc="left", pad=3)
    return figure


@styled
def sensitivity(tables: Sequence[Values]) -> Figure:
    """One panel per width: the loss that each layer alone adds, with its 95 % interval."""
    most = max(len(table["layers"]) for table in tables)
    figure = blank(10.0 if len(tables) > 1 else 7.0, 0.9 + 0.25 * most)
    panels = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
    for panel, table in zip(panels, tables, strict=True):
        layers = table["layers"]
        values = [layer["loss_increase"] for layer in layers]
        low, high = zip(*(layer["loss_ci95"] for layer in layers), strict=True)
        colors = [OP_COLORS.get(layer["op"], INK) for layer in layers]
        lines = range(len(layers))
        panel.barh(lines, values, color=colors, height=0.62)
        panel.hlines(lines, low, high, color=INK, linewidth=1.2)
        panel.set_yticks(lines, [layer["layer"] for layer in layers], fontsize=8)
        panel.set_xlabel(f"increase of loss at {table['bits']} bits, nats")
        panel.grid(axis="y", visible=False)
        panel.tick_params(axis="y", length=0)
    panels[0].invert_yaxis()
    present = dict.fromkeys(layer["op"] for table in tables for layer in table["layers"])
    handles = [panels[-1].barh([0], [0], color=OP_COLORS.get(op, INK), label=op) for op in present]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), frameon=False, fontsize=8.5)
    return figure


@styled
def half_floats(entries: Sequence[Values]) -> Figure:
    """Four panels: memory, values lost, error per layer, training."""
    figure = blank(10.0, 6.4)
    (memory, lost), (error, training_panel) = figure.subplots(2, 2)
    inference = [entry for entry in entries if entry["what"] == "inference"]
    _memory_bars(memory, inference)
    _lost_bars(lost, [entry for entry in inference if entry["type"] != "fp32"])
    for entry in inference:
        if entry["type"] != "fp32":
            values = [float(layer["output_db"]) for layer in entry["layers"]]
            error.plot(
                values, color=TYPE_COLORS[entry["type"]], marker="o", markersize=4, label=entry["type"]
            )
    layers = [layer["layer"] for layer in inference[0]["layers"]]
    error.set_xticks(range(len(layers)), layers, rotation=60, ha="right", fontsize=7.5)
    error.set_ylabel("SQNR of layer outputs, dB")
    error.legend(frameon=False, fontsize=8.5)
    for entry in entries:
        if entry["what"] == "training":
            losses = [float(loss) for loss in entry["losses"]]
            label = f"{entry['type']}, {entry['zero_gradients']:.1f} % of gradients 0"
            training_panel.plot(losses, color=TYPE_COLORS[entry["type"]], linewidth=1.2, label=label)
    training_panel.set_xlabel("step of training from random weights")
    training_panel.set_ylabel("loss, nats")
    if training_panel.lines:
        training_panel.legend(frameon=False, fontsize=8.5)
    return figure


def _memory_bars(axes: Axes, entries: Sequence[Values]) -> None:
    kinds = {"file": "file_bytes", "weights": "weight_bytes", "activations, peak": "peak_activation_bytes"}
    width = 0.8 / len(entries)
    most = max(entry[key] for entry in entries for key in kinds.values())
    unit, name = (2**20, "MiB") if most >= 2**20 else (2**10, "KiB")
    for number, entry in enumerate(entries):
        places = [i + (number - (len(entries) - 1) / 2) * width for i in range(len(kinds))]
        sizes = [entry[key] / unit for key in kinds.values()]
        axes.bar(places, sizes, width, color=TYPE_COLORS[entry["type"]], label=entry["type"])
    axes.set_xticks(range(len(kinds)), list(kinds))
    axes.set_ylabel(name)
    axes.grid(axis="x", visible=False)
    axes.legend(frameon=False, fontsize=8.5)


def _lost_bars(axes: Axes, entries: Sequence[Values]) -> None:
    """Percent of the values that a type can't hold."""
    kinds = list(itertools.product(("weights", "activations"), ("overflow", "underflow", "subnormal")))
    width = 0.8 / max(len(entries), 1)
    for number, entry in enumerate(entries):
        places = [i + (number - (len(entries) - 1) / 2) * width for i in range(len(kinds))]
        shares = [100.0 * entry[where][how] / entry[where]["values"] for where, how in kinds]
        bars = axes.bar(places, shares, width, color=TYPE_COLORS[entry["type"]], label=entry["type"])
        counts = [entry[where][how] for where, how in kinds]
        axes.bar_label(bars, [f"{count:,}" for count in counts], fontsize=7, padding=2)
    axes.set_xticks(range(len(kinds)), [f"{where}\n{how}" for where, how in kinds], fontsize=7.5)
    axes.set_ylabel("% of the values (counts above)")
    axes.margins(y=0.15)
    axes.grid(axis="x", visible=False)
    axes.legend(frameon=False, fontsize=8.5)
