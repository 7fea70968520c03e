"""Common claims about quantization, each tested on what a study measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..bootstrap import mean_drop_interval
from ..scalings import GRANULARITIES, SCALINGS
from .part import Values
from .results import Results
from .subject import bits
from .table import LATENCY, drop_between, row_names, runs_of
from .verdict import UNDECIDED, Verdict, claim, judged, within

POINTS = "points of top-1"
QUARTER, TOLERANCE = 75.0, 3.0  # percent saved by 8 bits in place of 32, and how near "about" is


@claim
def int8_costs_less_than_a_point(results: Results) -> Iterator[Verdict]:
    if "int8" in row_names(results):
        drop, interval = _drop(results, "fp32", "int8")
        yield from within(
            "8-bit integers after training cost less than one point of accuracy",
            "drop of int8 against fp32", drop, interval, POINTS, below=1.0,
        )  # fmt: skip


@claim
def a_quarter_of_the_size_keeps_accuracy(results: Results) -> Iterator[Verdict]:
    names = row_names(results)
    if "int8" not in names:
        return
    drop, interval = _drop(results, "fp32", "int8")
    sizes = [runs_of(results, name)[0]["size_bytes"] for name in ("int8", "fp32")]
    saved = 100.0 * (1.0 - sizes[0] / sizes[1])
    yield from within(
        "A quarter of the size keeps the accuracy, to half a point",
        "drop of int8 against fp32", drop, interval, POINTS, below=0.5, note=f"file {saved:.1f} % smaller",
    )  # fmt: skip
    yield from within(
        "int8 makes the file about 75 % smaller",
        "bytes saved by the int8 file", saved, (saved, saved), "%",
        above=QUARTER - TOLERANCE, below=QUARTER + TOLERANCE,
        note="counted in bytes, so there is no interval; about is 3 % to either side",
    )  # fmt: skip


@claim
def robust_scaling_beats_max_abs(results: Results) -> Iterator[Verdict]:
    found = _scalings(results)
    for scaling in SCALINGS:
        for width, granularity in dict.fromkeys((b, g) for _, g, b in found):
            one, other = (found.get((name, granularity, width)) for name in ("max-abs", scaling))
            if scaling == "max-abs" or one is None or other is None:
                continue
            gain, interval = _gain(results, other, one)
            decibels = other["sqnr_db"] - one["sqnr_db"]
            yield from within(
                f"Scaling weights by {_called(scaling)} beats the largest value "
                f"({width} bits, per {granularity})",
                "gain of top-1 over max-abs", gain, interval, POINTS, above=0.0,
                note=f"SQNR of all weights {decibels:+.1f} dB",
            )  # fmt: skip


@claim
def per_channel_beats_per_tensor(results: Results) -> Iterator[Verdict]:
    found = _scalings(results)
    for width in dict.fromkeys(b for _, _, b in found):
        tensor, channel = (found.get(("max-abs", g, width)) for g in GRANULARITIES)
        if tensor is None or channel is None:
            continue
        gain, interval = _gain(results, channel, tensor)
        gains = {k: float(v) - float(tensor["layers"][k]) for k, v in channel["layers"].items()}
        most = max(gains, key=lambda k: gains[k])
        yield from within(
            f"A scale for each output channel beats one for the tensor ({width} bits)",
            "gain of top-1", gain, interval, POINTS, above=0.0,
            note=f"SQNR rises most in {most}: {gains[most]:+.1f} dB",
        )  # fmt: skip


@claim
def convolutions_are_more_sensitive(results: Results) -> Iterator[Verdict]:
    for table in results.of("sensitivity"):
        if table["convolution_minus_linear"] is None:
            continue
        value, low, high = table["convolution_minus_linear"]
        worst = max(table["layers"], key=lambda layer: layer["loss_increase"])
        yield from within(
            f"Convolutions are more sensitive than linear layers ({table['bits']} bits)",
            "loss that a convolution alone adds, less that of a linear layer, means over layers",
            value, (low, high), "nats", above=0.0,
            note=f"most sensitive: {worst['layer']} ({worst['loss_increase']:+.4f})",
        )  # fmt: skip


@claim
def training_and_rounding_after_it(results: Results) -> Iterator[Verdict]:
    names = row_names(results)
    for name in names:
        after = name.removesuffix("-qat")
        if after == name or after not in names:
            continue
        worse, (low, high) = _drop(results, after, name)
        eight = after == "int8"
        said = (
            "Training with int8 ends below rounding after training"
            if eight
            else f"Training with {after} recovers what rounding after training loses"
        )
        value, interval = (worse, (low, high)) if eight else (-worse, (-high, -low))
        row = next(r for r in results.rows if r["format"] == name)
        note = _meeting(row, next(r["top1"] for r in results.rows if r["format"] == after))
        if "drop_control" in row:
            a, b = row["drop_control_ci95"]
            note += f"; drop against float trained on alike {row['drop_control']:+.2f} [{a:+.2f}, {b:+.2f}]"
        statistic = (
            "top-1 after training less that of QAT" if eight else "top-1 of QAT less that after training"
        )
        yield from within(said, statistic, value, interval, POINTS, above=0.0, note=note)


@claim
def fp16_and_bf16(results: Results) -> Iterator[Verdict]:
    names = row_names(results)
    if "fp16" in names and "bf16" in names:
        gain, interval = _drop(results, "fp16", "bf16")
        yield from within(
            "fp16 is more accurate than bf16",
            "top-1 of fp16 less that of bf16",
            gain,
            interval,
            POINTS,
            above=0.0,
        )
        sizes = [runs_of(results, name)[0]["size_bytes"] for name in ("fp16", "bf16")]
        ratio = 100.0 * (sizes[0] / sizes[1] - 1.0)
        yield from within(
            "fp16 and bf16 take the same memory", "fp16's file beyond bf16's", ratio, (ratio, ratio), "%",
            above=-1.0, below=1.0, note="counted in bytes, so there is no interval",
        )  # fmt: skip
        yield from _speed(results, "fp16 runs faster than bf16", "fp16", "bf16", above=1.0)
    yield from _training_in_16_bits(results)


def _training_in_16_bits(results: Results) -> Iterator[Verdict]:
    runs = {v["type"]: v for v in results.of("half_floats") if v["what"] == "training"}
    if runs.keys() < {"fp32", "fp16", "bf16"}:
        return
    steps = min(run["steps"] for run in runs.values())
    losses = {name: np.array(run["losses"][:steps], dtype=float) for name, run in runs.items()}
    away = {name: np.abs(losses[name] - losses["fp32"]) for name in ("fp16", "bf16")}
    difference = away["fp16"] - away["bf16"]
    finite = {name: all(np.isfinite(losses[name])) for name in away}
    zero = ", ".join(f"{name} {run['zero_gradients']:.2f}" for name, run in runs.items())
    note = f"percent of gradients that are 0: {zero}; no scaling of the loss"
    said = "bf16 trains more stably than fp16"
    if not all(finite.values()):
        verdict = "supported" if finite["bf16"] else "not supported"
        failed = ", ".join(name for name, good in finite.items() if not good)
        yield Verdict(said, f"loss not finite in {failed}", None, None, None, "", verdict, note)
        return
    generator = np.random.default_rng(results.info["seed"])
    means = generator.choice(difference, (2000, steps)).mean(1)
    low, high = (float(v) for v in np.percentile(means, [2.5, 97.5]))
    yield from within(
        said,
        f"distance of fp16's loss from fp32's, less that of bf16's, mean of {steps} steps",
        float(difference.mean()), (low, high), "nats", above=0.0, note=note,
    )  # fmt: skip


@claim
def integers_are_fast_and_simulation_is_not(results: Results) -> Iterator[Verdict]:
    yield from _speed(results, "True int8 is faster than fp32", "int8", "fp32", above=1.0)
    yield from _speed(
        results, "Simulated int8 is slower than fp32", "int8, simulated, eager", "fp32, eager", below=1.0
    )
    yield from _speed(
        results, "Dynamic quantization gains less speed than static", "int8", "int8-dynamic", above=1.0
    )


@claim
def biases_of_8_bits_hurt(results: Results) -> Iterator[Verdict]:
    found = {(v["recipe"], v["bias"]): v for v in results.of("biases")}
    for (name, bias), values in found.items():
        wide = found.get((name, "int32"))
        if wide is None or not bias.startswith("int8"):
            continue
        loss, interval = _gain(results, wide, values)
        yield from within(
            f"Biases of 8 bits hurt ({name}; {bias.removeprefix('int8, ')})",
            "drop against biases of 32 bits", loss, interval, POINTS, above=0.0,
            note=f"{values['biases']} biases, {3 * values['biases']:,} bytes saved",
        )  # fmt: skip


def _meeting(row: Values, top1: float) -> str:
    """After which epoch each run first reaches `top1`."""
    firsts = []
    for history in row.get("history", []):
        reached = (line["epoch"] for line in history if line["epoch"] and line["test_top1"] >= top1)
        first = next(reached, None)
        firsts.append("none" if first is None else f"{first:.0f}")
    return f"meets it after epoch {', '.join(firsts)}" if firsts else ""


def _scalings(results: Results) -> dict[tuple[str, str, int], Values]:
    entries = [v for v in results.of("observers") if v["what"] == "weights"]
    return {(v["observer"], v["granularity"], v["bits"]): v for v in entries}


def _gain(results: Results, one: Values, other: Values) -> tuple[float, list[float]]:
    """Top-1 of `one` less that of `other`, both with a field "correct"; and its 95 % interval."""
    images = results.info["test_images"]
    a, b = (bits(values["correct"], images)[None] for values in (one, other))
    interval = mean_drop_interval(a, b, seed=results.info["seed"])
    return 100.0 * float(a.mean() - b.mean()), _at_least(interval, images)


def _drop(results: Results, reference: str, row: str) -> tuple[float, list[float]]:
    drop, interval = drop_between(results, reference, row)
    return drop, _at_least(interval, results.info["test_images"])


def _at_least(interval: Sequence[float], images: int) -> list[float]:
    """Where no image tells two models apart, resampling finds no spread; at 95 %, up to 3 of n images could
    (the rule of three; Hanley and Lippman-Hand, 1983).

    >>> _at_least((0.0, 0.0), 1000)
    [-0.3, 0.3]
    """
    low, high = interval
    return [low, high] if high > low else [low - 300.0 / images, high + 300.0 / images]


def _called(scaling: str) -> str:
    return {"3-sigma": "three standard deviations", "percentile 99.9": "the 99.9th percentile"}[scaling]


def _speed(results: Results, said: str, one: str, other: str, **region: float) -> Iterator[Verdict]:
    """How many times as fast `one` is as `other`; the interval is what the quartiles of both allow."""
    measured: list[dict[str, Any]] = results.of(LATENCY)
    if not measured:
        return
    batch = measured[0]["speed"][0]["batch"]
    times = {e["format"]: e for e in measured[0]["speed"] if e["batch"] == batch}
    missing = [name for name in (one, other) if name not in times]
    if missing:
        if all(name in row_names(results) for name in missing):
            why = "; ".join(f"{name}: {measured[0]['notes'].get(name, 'not timed')}" for name in missing)
            yield Verdict(said, "latency not measured", None, None, None, "", UNDECIDED, why)
        return
    a, b = times[one], times[other]
    ratio = b["median_ms"] / a["median_ms"]
    low = b["lower_quartile_ms"] / a["upper_quartile_ms"]
    high = b["upper_quartile_ms"] / a["lower_quartile_ms"]
    verdict = judged(low, high, **region)
    note = f"batches of {batch}; the interval is that of the quartiles"
    yield Verdict(said, f"{other}'s latency over {one}'s", ratio, low, high, "times", verdict, note)
