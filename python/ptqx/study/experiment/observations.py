"""What is often said of the distributions of weights and activations, tested layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .part import Values
from .results import Results
from .verdict import NOT_SUPPORTED, SUPPORTED, Verdict, claim, judged

NEAR_ZERO = 0.1  # |mean| in standard deviations
DIFFERENT = 2.0  # the widest range over the narrowest
SIGMAS = 3.0  # of robust scaling


def float_layers(results: Results, what: str) -> list[Values]:
    """Distributions of the float model: "weight" or "activation", in the network's order."""
    parts = [v for v in results.of("distributions") if v["recipe"] is None]
    return [layer for part in parts for layer in part["layers"] if layer["what"] == what]


@claim
def weights_are_centred(results: Results) -> Iterator[Verdict]:
    layers = float_layers(results, "weight")
    if layers:
        worst = max(layers, key=lambda d: abs(d["mean"]) / max(d["std"], 1e-30))
        value = abs(worst["mean"]) / max(worst["std"], 1e-30)
        yield _exact(
            "Weights have means near zero, so that symmetric codes suit them",
            f"largest |mean| / \u03c3, in {worst['layer']}", value, "", value < NEAR_ZERO,
            f"near is within {NEAR_ZERO:g} \u03c3",
        )  # fmt: skip


@claim
def spread_by_depth(results: Results) -> Iterator[Verdict]:
    layers = float_layers(results, "weight")
    if len(layers) >= 3:
        first, *middle, head = (d["std"] for d in layers)
        inner = float(np.mean(middle))
        yield _exact(
            "The spread of weights falls in the middle layers and rises at the classifier",
            "\u03c3 of the head over the middle's mean", head / inner, "times", first > inner < head,
            f"\u03c3: first {first:.3g}, middle {inner:.3g}, head {head:.3g}",
        )  # fmt: skip


@claim
def convolutions_have_heavier_tails(results: Results) -> Iterator[Verdict]:
    layers = float_layers(results, "weight")
    conv = [d["kurtosis"] for d in layers if d["op"] == "Conv2d"]
    linear = [d["kurtosis"] for d in layers if d["op"] == "Linear"]
    if not conv or not linear:
        return
    generator = np.random.default_rng(results.info["seed"])
    means = [_resampled_means(group, generator) for group in (conv, linear)]
    low, high = (float(v) for v in np.percentile(means[0] - means[1], [2.5, 97.5]))
    yield Verdict(
        "Convolutions have heavier tails than linear layers",
        "excess kurtosis of convolutions less that of linear layers, means over layers",
        float(np.mean(conv) - np.mean(linear)), low, high, "", judged(low, high, above=0.0),
        f"{len(conv)} convolutions, {len(linear)} linear layers; the interval resamples layers",
    )  # fmt: skip


@claim
def early_activations_are_wider(results: Results) -> Iterator[Verdict]:
    layers = float_layers(results, "activation")[1:]  # the first reads the images
    if len(layers) < 4:
        return
    spread = np.array([d["std"] for d in layers])
    depth = np.arange(len(layers))
    generator = np.random.default_rng(results.info["seed"])
    picks = generator.integers(len(layers), size=(2000, len(layers)))
    correlations = _rank_correlations(depth[picks], spread[picks])
    low, high = (float(v) for v in np.percentile(correlations, [2.5, 97.5]))
    yield Verdict(
        "Early activations are more widely distributed than late ones",
        "rank correlation of depth and \u03c3 of what layers read",
        float(_rank_correlations(depth[None], spread[None])[0]), low, high, "", judged(low, high, below=0.0),
        "images left out; the interval resamples layers",
    )  # fmt: skip


@claim
def rectified_activations_are_one_sided(results: Results) -> Iterator[Verdict]:
    layers = float_layers(results, "activation")[1:]
    if layers:
        negative = [d["layer"] for d in layers if d["low"] < 0]
        yield _exact(
            "Activations behind ReLU are never negative, so that asymmetric codes suit them",
            "layers that read negative values", len(negative), "layers", not negative,
            f"of {len(layers)}, images left out" + (f": {', '.join(negative)}" if negative else ""),
        )  # fmt: skip


@claim
def ranges_differ_between_layers(results: Results) -> Iterator[Verdict]:
    layers = float_layers(results, "activation")[1:]
    if len(layers) > 1:
        reach = {d["layer"]: max(abs(d["low"]), abs(d["high"])) for d in layers}
        widest, narrowest = max(reach, key=lambda k: reach[k]), min(reach, key=lambda k: reach[k])
        ratio = reach[widest] / max(reach[narrowest], 1e-30)
        yield _exact(
            "Ranges of activations differ much from layer to layer",
            f"largest value read by {widest} over that by {narrowest}", ratio, "times", ratio > DIFFERENT,
            f"much is more than {DIFFERENT:g} times",
        )  # fmt: skip


@claim
def robust_scaling_wastes_range(results: Results) -> Iterator[Verdict]:
    layers = float_layers(results, "weight")
    if layers:
        light = {d["layer"]: d["max_over_std"] for d in layers if d["max_over_std"] < SIGMAS}
        unused = max((100 * (1 - value / SIGMAS) for value in light.values()), default=0.0)
        yield _exact(
            "Scaling by three standard deviations leaves range unused in some layers",
            "layers whose largest weight is below 3\u03c3", len(light), "layers", bool(light),
            f"of {len(layers)}; up to {unused:.0f} % of the codes unused"
            if light
            else f"of {len(layers)}: all have larger weights, which 3\u03c3 cuts off",
        )  # fmt: skip


def _exact(said: str, statistic: str, value: float, unit: str, holds: bool, note: str) -> Verdict:
    """A claim about this network alone, that no sampling stands behind."""
    return Verdict(said, statistic, value, value, value, unit, SUPPORTED if holds else NOT_SUPPORTED, note)


def _resampled_means(values: Sequence[float], generator: np.random.Generator) -> np.ndarray:
    drawn: np.ndarray = generator.choice(np.asarray(values), (2000, len(values))).mean(1)
    return drawn


def _rank_correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's of each row, ties sharing their mean rank; 0 where one of the two is constant.

    >>> _rank_correlations(np.array([[1, 2, 3], [1, 2, 2]]), np.array([[9, 8, 1], [0, 0, 0]])).tolist()
    [-1.0, 0.0]
    """
    x, y = (ranks - ranks.mean(1, keepdims=True) for ranks in (_ranks(a), _ranks(b)))
    norm = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    correlations: np.ndarray = (x * y).sum(1) / np.where(norm > 0, norm, 1.0)
    return correlations


def _ranks(values: np.ndarray) -> np.ndarray:
    """Of each row: how many are smaller, and half of those that are equal."""
    smaller = (values[:, None, :] < values[:, :, None]).sum(2)
    ranks: np.ndarray = smaller + ((values[:, None, :] == values[:, :, None]).sum(2) - 1) / 2
    return ranks
