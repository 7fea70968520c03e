from __future__ import annotations

import pytest
import torch
from ptqx import data
from ptqx.study import Report
from ptqx.study.rows import ComparedRow
from ptqx.study.statistics import distribution
from torch import nn

HOSTILE = "<script>alert('x')</script>"


def make_row(name: str, kind: str = "ptq", execution: str = "integer", **changes: object) -> ComparedRow:
    row = {
        "format": name,
        "kind": kind,
        "execution": execution,
        "top1": 69.5,
        "drop": 0.5,
        "drop_ci95": [0.25, 0.75],
        "agreement": 98.5,
        "size_bytes": 10_000_000,
        "latency_ms": 25.0,
        "throughput": 2560.0,
        "speedup_vs_fp32": 4.0,
        "batch": 64,
        "threads": 2,
        "isa": "avx2",
        "coverage": 100.0,
        "detail": "w8a8 static",
        "sqnr_db": 42.0,
    }
    return ComparedRow(**{**row, **changes})  # type: ignore[typeddict-item]


@pytest.fixture
def report() -> Report:
    """A small report of made-up numbers, with names that try to break out of a page."""
    untimed = {"latency_ms": None, "throughput": None, "speedup_vs_fp32": None, "coverage": 0.0}
    float_row = {"top1": 70.0, "drop": 0.0, "drop_ci95": [0.0, 0.0], "agreement": 100.0, "coverage": 0.0}
    float_row["sqnr_db"] = None
    rows = [
        make_row(
            "fp32",
            "float",
            "float",
            size_bytes=40_000_000,
            latency_ms=100.0,
            speedup_vs_fp32=1.0,
            **float_row,
        ),
        make_row("fp16", "float", "simulated", **{**float_row, **untimed}),
        make_row("int8", detail=HOSTILE),
        make_row("int4-qat", "qat", size_bytes=5_000_000),
    ]
    speed = [
        {
            "format": row["format"],
            "batch": batch,
            "median_ms": 100.0,
            "lower_quartile_ms": 90.0,
            "upper_quartile_ms": 120.0,
            "rounds": 7,
            "throughput": 640.0,
            "speedup_vs_fp32": 1.0,
        }
        for batch in (64, 1)
        for row in rows
        if row["latency_ms"] is not None
    ]
    values = torch.linspace(-1, 1, 50)
    return Report(
        rows=rows,
        info={
            "model": HOSTILE,
            "dataset": "digits",
            "test_images": 360,
            "calibration_images": 100,
            "command": HOSTILE,
        },
        machine={
            "cpu": "a & b",
            "cores": 2,
            "memory_bytes": 2**33,
            "isa": "avx2",
            "system": "Linux",
            "python": "3.11",
            "torch": "2.13",
            "ptqx": "0.1",
        },
        speed=speed,
        coverage={"int8": [{"layer": HOSTILE, "runs": "integer"}]},
        sqnr=[
            {"format": "int8", "layer": "features.0", "weight_db": 40.0, "output_db": float("inf")},
            {"format": "int8", "layer": HOSTILE, "weight_db": None, "output_db": 30.0},
        ],
        distributions=[
            distribution(values, "features.0", "weight").to_dict(),
            distribution(values.abs(), HOSTILE, "activation").to_dict(),
        ],
    )


@pytest.fixture(scope="session")
def digits() -> tuple[data.ImageDataset, data.ImageDataset]:
    return data.load("digits", split="train"), data.load("digits", split="test").subset(slice(0, 120))


@pytest.fixture
def small_cnn() -> nn.Module:
    from ptqx.models import cnn

    torch.manual_seed(0)
    return cnn(width=4).eval()


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time the float model as it is: compiling takes longer than these tests."""
    from ptqx.study import formats

    monkeypatch.setattr(formats, "compiled", lambda model, example: (model, "eager"))
