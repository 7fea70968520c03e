"""A report as one HTML page that loads nothing: style, figures and tables are inside."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, Template
from markupsafe import Markup

from . import plots
from .report import COLUMNS, NUMERIC, Report, line
from .rows import file_size, signed

MAX_CARDS = 8
LIMITS = (
    "Energy is not measured: nothing here says anything about it.",
    "Latency holds for this machine, this batch size and this number of threads.",
    "The 95 % intervals cover the choice of test images, not that of training run and calibration images.",
    "Simulated rows compute in float32 on rounded values: their accuracy counts, their time says nothing.",
)


def render(report: Report) -> str:
    """The whole page."""
    return template("report.html").render(
        report=report,
        columns=COLUMNS,
        numeric=NUMERIC,
        lines=[line(row) for row in report.rows],
        headlines=headlines(report),
        figures=_figures(report),
        limits=LIMITS,
        style=Markup(text_of("report.css")),
    )


def render_table(report: Report) -> str:
    """The table alone, for a notebook."""
    return template("table.html").render(
        columns=COLUMNS,
        numeric=NUMERIC,
        lines=[line(row) for row in report.rows],
        conditions=report.conditions(),
    )


def headlines(report: Report) -> list[dict[str, str]]:
    """The few numbers at the top: for every integer format its drop, size and speed against fp32. Of more
    than MAX_CARDS, those that no other one beats in both size and accuracy.

    >>> headlines(Report(rows=[], info={}, machine={}))
    []
    """
    if not report.rows:
        return []
    reference = report.rows[0]
    integer = [row for row in report.rows if row["execution"] == "integer"]
    if len(integer) > MAX_CARDS:
        front = plots.pareto_front([r["size_bytes"] for r in integer], [r["top1"] for r in integer])
        integer = [integer[i] for i in reversed(front)][:MAX_CARDS]
    return [
        {
            "format": row["format"],
            "drop": f"{signed(-row['drop'])} points",
            "size": f"{100 * row['size_bytes'] / reference['size_bytes']:.0f} % of the size",
            "speed": f"{row['speedup_vs_fp32']:.1f} times as fast"
            if row["speedup_vs_fp32"]
            else "speed not measured",
        }
        for row in integer
    ]


def _figures(report: Report) -> dict[str, Markup]:
    """The figures that the report has data for."""
    weights = [d for d in report.distributions if d["what"] == "weight"]
    activations = [d for d in report.distributions if d["what"] == "activation"]
    wanted: dict[str, tuple[Any, Callable[[], Any], str]] = {
        "overview": (
            report.rows,
            lambda: plots.accuracy_and_cost(report.rows),
            "Top-1 with 95 % interval, SQNR of the logits, file size and latency of every format",
        ),
        "size": (
            report.rows,
            lambda: plots.accuracy_against(report.rows),
            "Top-1 accuracy against file size",
        ),
        "latency": (
            report.speed,
            lambda: plots.latency(report.rows, report.speed),
            "Median latency of every format by batch size",
        ),
        "sqnr": (
            report.sqnr,
            lambda: plots.sqnr_per_layer(report.sqnr),
            "Signal to quantization noise ratio per layer",
        ),
        "weights": (weights, lambda: plots.histograms(weights), "Histograms of the weights per layer"),
        "activations": (
            activations,
            lambda: plots.histograms(activations),
            "Histograms of what enters each layer",
        ),
    }
    return {name: Markup(plots.svg(draw(), text)) for name, (data, draw, text) in wanted.items() if data}


@cache
def template(name: str) -> Template:
    """A template of this folder, with its filters."""
    environment = Environment(
        loader=FunctionLoader(text_of), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["file_size"] = file_size
    return environment.get_template(name)


def text_of(name: str) -> str:
    """The content of a file that lies beside this one."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
