"""Verdicts on results that are made to support a claim, to refute it, or to leave it open."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ptqx.study import Results
from ptqx.study.experiment.subject import bits, packed_bits
from ptqx.study.experiment.verdict import verdicts

IMAGES = 2000


def right(count: int, shift: int = 0) -> str:
    """`count` images right, the first `shift` of all wrong."""
    flags = torch.zeros(IMAGES, dtype=torch.bool)
    flags[shift : shift + count] = True
    return packed_bits(flags)


def unit(part: str, **values: Any) -> dict[str, Any]:
    return {"part": part, "name": "", "fingerprint": "", "seconds": 0.0, "values": values}


def row(name: str, correct: str, size: int = 1000) -> dict[str, Any]:
    return unit("rows", row=name, seed=0, correct=correct, size_bytes=size)


def judged(*units: dict[str, Any]) -> dict[str, str]:
    results = Results(info={"test_images": IMAGES, "seed": 0}, machine={}, config={}, units=list(units))
    rows = {u["values"]["row"]: u["values"] for u in units if "row" in u["values"]}
    results.rows = [
        {"format": name, "top1": 100 * float(bits(values["correct"], IMAGES).mean())}
        for name, values in rows.items()
    ]
    return {v["claim"]: v["verdict"] for v in verdicts(results)}


@pytest.mark.parametrize(
    ("lost", "verdict"), [(0, "supported"), (4, "supported"), (20, "undecided"), (60, "not supported")]
)
def test_int8_costs_less_than_a_point(lost: int, verdict: str) -> None:
    found = judged(row("fp32", right(1800)), row("int8", right(1800 - lost)))
    assert found["8-bit integers after training cost less than one point of accuracy"] == verdict


@pytest.mark.parametrize(
    ("size", "verdict"), [(250, "supported"), (300, "not supported"), (200, "not supported")]
)
def test_int8_is_a_quarter_of_the_size(size: int, verdict: str) -> None:
    found = judged(row("fp32", right(1800)), row("int8", right(1800), size))
    assert found["int8 makes the file about 75 % smaller"] == verdict


@pytest.mark.parametrize(
    ("qat", "verdict"), [(1700, "supported"), (1800, "undecided"), (1850, "not supported")]
)
def test_training_with_int8_ends_below(qat: int, verdict: str) -> None:
    found = judged(row("fp32", right(1800)), row("int8", right(1800)), row("int8-qat", right(qat)))
    assert found["Training with int8 ends below rounding after training"] == verdict


def test_models_that_no_image_tells_apart_leave_it_open_which_is_better() -> None:
    found = judged(row("fp32", right(1800)), row("fp16", right(1800)), row("bf16", right(1800)))
    assert found["fp16 is more accurate than bf16"] == "undecided"
    assert found["fp16 and bf16 take the same memory"] == "supported"


def weights(observer: str, granularity: str, correct: str, db: float) -> dict[str, Any]:
    values = {"what": "weights", "bits": 4, "observer": observer, "granularity": granularity}
    return unit("observers", **values, correct=correct, sqnr_db=db, layers={"a": db, "b": 2 * db})


def test_scalings_and_granularities_are_compared_at_the_same_bits() -> None:
    found = judged(
        weights("max-abs", "tensor", right(1600), 10.0),
        weights("3-sigma", "tensor", right(1700), 12.0),
        weights("percentile 99.9", "tensor", right(1500), 11.0),
        weights("max-abs", "channel", right(1700), 15.0),
    )
    beats = "beats the largest value (4 bits, per tensor)"
    assert found == {
        f"Scaling weights by three standard deviations {beats}": "supported",
        f"Scaling weights by the 99.9th percentile {beats}": "not supported",
        "A scale for each output channel beats one for the tensor (4 bits)": "supported",
    }


def timed(**medians: float) -> dict[str, Any]:
    speed = [
        {
            "format": name.replace("_", "-"),
            "batch": 64,
            "median_ms": ms,
            "lower_quartile_ms": 0.95 * ms,
            "upper_quartile_ms": 1.05 * ms,
        }
        for name, ms in medians.items()
    ]
    return unit("latency", speed=speed, notes={})


def test_speeds_are_ratios_of_latencies() -> None:
    found = judged(timed(fp32=10.0, int8=2.0, int8_dynamic=2.05))
    assert found["True int8 is faster than fp32"] == "supported"
    assert found["Dynamic quantization gains less speed than static"] == "undecided"
    assert judged(timed(fp32=1.0, int8=2.0))["True int8 is faster than fp32"] == "not supported"


def trained(name: str, losses: list[float]) -> dict[str, Any]:
    run = {"what": "training", "type": name, "losses": losses, "zero_gradients": 0.0, "steps": len(losses)}
    return unit("half_floats", **run)


def test_training_that_ends_in_nan_decides_for_the_other_type() -> None:
    claim = "bf16 trains more stably than fp16"
    good = [2.0, 1.5, 1.0]
    assert judged(trained("fp32", good), trained("fp16", [2.0, float("nan")]), trained("bf16", good))[
        claim
    ] == ("supported")
    near, far = [2.0, 1.51, 1.01], [2.1, 1.7, 1.2]
    assert judged(trained("fp32", good), trained("fp16", far), trained("bf16", near))[claim] == "supported"
    assert (
        judged(trained("fp32", good), trained("fp16", near), trained("bf16", far))[claim] == "not supported"
    )


def layer(name: str, what: str, op: str, **moments: float) -> dict[str, Any]:
    usual = {
        "mean": 0.0,
        "std": 1.0,
        "skewness": 0.0,
        "kurtosis": 0.0,
        "max_over_std": 4.0,
        "low": 0.0,
        "high": 4.0,
    }
    return {"layer": name, "what": what, "op": op, **usual, **moments}


def observed(*layers: dict[str, Any]) -> dict[str, str]:
    return judged(unit("distributions", recipe=None, layers=list(layers)))


def test_observations_of_weights() -> None:
    found = observed(
        layer("a", "weight", "Conv2d", std=0.3, kurtosis=3.0),
        layer("b", "weight", "Conv2d", std=0.1, kurtosis=2.5, mean=0.02),
        layer("c", "weight", "Linear", std=0.4, kurtosis=0.1, max_over_std=2.0),
    )
    assert found == {
        "Weights have means near zero, so that symmetric codes suit them": "not supported",
        "The spread of weights falls in the middle layers and rises at the classifier": "supported",
        "Convolutions have heavier tails than linear layers": "supported",
        "Scaling by three standard deviations leaves range unused in some layers": "supported",
    }


def test_observations_of_activations() -> None:
    inputs = [layer(f"l{i}", "activation", "Conv2d", std=10.0 - i, high=40.0 - 4 * i) for i in range(9)]
    found = observed(*inputs)
    assert found["Early activations are more widely distributed than late ones"] == "supported"
    assert (
        found["Activations behind ReLU are never negative, so that asymmetric codes suit them"] == "supported"
    )
    assert found["Ranges of activations differ much from layer to layer"] == "supported"
    flat = [{**d, "std": 1.0 + (i % 2), "high": 4.0, "low": -1.0} for i, d in enumerate(inputs)]
    found = observed(*flat)
    assert found["Early activations are more widely distributed than late ones"] == "undecided"
    assert (
        found["Activations behind ReLU are never negative, so that asymmetric codes suit them"]
        == "not supported"
    )
    assert found["Ranges of activations differ much from layer to layer"] == "not supported"


def test_bits_survive_packing() -> None:
    flags = torch.rand(1001) < 0.5
    assert np.array_equal(bits(packed_bits(flags), 1001), flags.numpy())
