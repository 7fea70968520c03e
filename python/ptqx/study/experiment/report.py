"""The report of a study: table, fits and verdicts from its units; figures and one HTML page from those."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from ...files import write_text
from .. import plots
from ..page import template, text_of
from . import figures
from .law import scaling_laws
from .part import Values
from .results import Results
from .subject import bits
from .table import mean_drop_interval, runs_of, table
from .text import NUMERIC, columns_and_lines, interval_text
from .verdict import verdicts

PAGE, FIGURES = "report.html", "figures"
LIMITS = (
    "Energy is not measured: nothing here says anything about it.",
    "Latency holds for this machine, this batch size and this number of threads.",
    "Intervals resample test images, and calibration sets or training seeds where there are several; a row "
    "of one run says nothing about other runs.",
    "Simulated rows compute in float32 on rounded values: their accuracy counts, their time says nothing.",
    "The verdicts are about this network and this data set, at 95 % each, not corrected for their number.",
)


def complete(results: Results) -> Results:
    """Make table, fits and verdicts of the units; return the same results."""
    results.rows = table(results)
    results.laws = scaling_laws(results)
    results.verdicts = verdicts(results)
    return results


def write_report(results: Results, folder: Path) -> None:
    """Write report.html, and its figures as files, to `folder`."""
    drawn = draw(results)
    for name, text in drawn.items():
        write_text(folder / FIGURES / f"{name}.svg", text)
    write_text(folder / PAGE, render(results, drawn))


def render(results: Results, drawn: dict[str, str] | None = None) -> str:
    """The whole page; it loads nothing else."""
    drawn = draw(results) if drawn is None else drawn
    columns, lines = columns_and_lines(results.rows)
    return template("study.html").render(
        r=results,
        columns=columns,
        numeric=NUMERIC,
        lines=lines,
        figures={name: Markup(text) for name, text in drawn.items()},
        moments=[layer for v in results.of("distributions") if v["recipe"] is None for layer in v["layers"]],
        sensitivity=[_ranked(t) for t in results.of("sensitivity")],
        biases=results.of("biases"),
        observers=results.of("observers"),
        half_floats=[v for v in results.of("half_floats") if v["what"] == "inference"],
        interval=interval_text,
        limits=LIMITS,
        style=Markup(text_of("report.css")),
    )


def draw(results: Results) -> dict[str, str]:
    """Every figure that the study has data for, as SVG."""
    rows: Any = [row for row in results.rows if row["kind"] != "float" or not row.get("history")]
    wanted: list[tuple[str, Any, Any, str]] = [
        (
            "overview",
            rows,
            lambda: plots.accuracy_and_cost(rows),
            "Top-1, file size and latency of every row",
        ),
        ("size", rows, lambda: plots.accuracy_against(rows), "Top-1 against file size"),
        (
            "latency",
            [row for row in rows if row["latency_ms"]],
            lambda: plots.accuracy_against(rows, "latency_ms"),
            "Top-1 against latency",
        ),
        (
            "bits",
            curves(results),
            lambda: figures.accuracy_against_bits(curves(results), rows[0]["top1"]),
            "Top-1 against bits, after training and with training",
        ),
        ("law", results.laws, lambda: figures.scaling_law(results.laws), "Fitted loss against bits"),
        (
            "training",
            _trained(results),
            lambda: figures.training(_trained(results), _lines(results)),
            "Top-1 per epoch of quantization-aware training",
        ),
        ("sqnr", sqnr(results), lambda: plots.sqnr_per_layer(sqnr(results)), "SQNR per layer"),
        (
            "sensitivity",
            results.of("sensitivity"),
            lambda: figures.sensitivity(results.of("sensitivity")),
            "Increase of loss by each layer alone",
        ),
        (
            "half_floats",
            [v for v in results.of("half_floats") if v["what"] == "inference"],
            lambda: figures.half_floats(results.of("half_floats")),
            "Memory, lost values, error per layer and training in fp16 and bf16",
        ),
    ]
    for values in results.of("distributions"):
        wanted += _distribution_figures(values)
    return {name: plots.svg(make(), text) for name, data, make, text in wanted if data}


def curves(results: Results) -> list[Values]:
    """Lines of top-1 over bits: the families of bit widths, and QAT rows of equal widths."""
    found: list[Values] = []
    points = results.of("bit_widths")
    for family in dict.fromkeys(point["family"] for point in points):
        chosen = [point for point in points if point["family"] == family]
        found.append({"name": f"{family}, after training", "kind": "ptq", **_curve(results, chosen)})
    trained = sorted(_trained(results), key=lambda row: -row["recipe"]["weights"]["bits"])
    if trained:
        top1 = results.rows[0]["top1"]
        found.append(
            {
                "name": "weights' bits, trained with",
                "kind": "qat",
                "bits": [row["recipe"]["weights"]["bits"] for row in trained],
                "top1": [row["top1"] for row in trained],
                "low": [top1 - row["drop_ci95"][1] for row in trained],
                "high": [top1 - row["drop_ci95"][0] for row in trained],
            }
        )
    return found


def sqnr(results: Results) -> list[Values]:
    """Per row and layer, for `plots.sqnr_per_layer`."""
    return [
        {"format": row["format"], **entry}
        for row in results.rows
        for entry in runs_of(results, row["format"])[0].get("sqnr", [])
    ]


def _curve(results: Results, points: list[Values]) -> Values:
    images, seed = results.info["test_images"], results.info["seed"]
    reference = bits(runs_of(results, "fp32")[0]["correct"], images)[None]
    top1 = results.rows[0]["top1"]
    intervals = [mean_drop_interval(reference, bits(p["correct"], images)[None], seed=seed) for p in points]
    return {
        "bits": [p["bits"] for p in points],
        "top1": [p["top1"] for p in points],
        "low": [top1 - high for _, high in intervals],
        "high": [top1 - low for low, _ in intervals],
    }


def _trained(results: Results) -> list[Values]:
    return [row for row in results.rows if row["kind"] == "qat" and row.get("history")]


def _lines(results: Results) -> dict[str, dict[str, float]]:
    """What QAT is measured against: fp32, and the same recipe after training where the study has it."""
    top1 = {row["format"]: row["top1"] for row in results.rows}
    lines = {}
    for row in _trained(results):
        after = row["format"].removesuffix("-qat")
        lines[row["format"]] = {"fp32": top1["fp32"]} | (
            {f"{after}, after training": top1[after]} if after in top1 else {}
        )
    return lines


def _distribution_figures(values: Values) -> list[tuple[str, Any, Any, str]]:
    found: list[tuple[str, Any, Any, str]] = []
    for what in dict.fromkeys(layer["what"] for layer in values["layers"]):
        layers = [layer for layer in values["layers"] if layer["what"] == what]
        if values["recipe"] is None:
            found.append((f"{what}s", layers, lambda d=layers: plots.histograms(d), f"{what}s per layer"))
        else:
            name = f"{what}s_{values['recipe']}"
            found.append((name, layers, lambda d=layers: figures.before_and_after(d), f"{what}s, quantized"))
    return found


def _ranked(values: Values) -> Values:
    return {**values, "layers": sorted(values["layers"], key=lambda layer: -layer["loss_increase"])}
