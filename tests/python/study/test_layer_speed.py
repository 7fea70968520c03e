"""Layers in integers and in float. No time is judged, only what is made of times."""

from __future__ import annotations

import json

import pytest
import torch
from ptqx import _C, quantize
from ptqx.errors import PtqxError
from ptqx.graph import IntegerModel, coverage
from ptqx.study import layer_speed
from ptqx.study.layer_speed import LayerSpeed, LayerSpeeds, layer_speeds
from ptqx.study.machine import native_float_types
from torch import nn


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_speed, "SAMPLE_SECONDS", 1e-4)
    monkeypatch.setattr(layer_speed, "CEILING_SECONDS", 5e-3)


@pytest.fixture(scope="module")
def model() -> IntegerModel:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8),
        nn.ZeroPad2d((1, 0, 2, 0)),
        nn.Conv2d(8, 16, (3, 1)),
        nn.Flatten(),
        nn.Linear(16 * 40, 10),
    ).eval()
    x = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        network[6] = nn.Linear(network[:6](x).shape[1], 10)
    return quantize(network, [x], "int8")


def test_every_layer_with_weights_has_its_times(model: IntegerModel) -> None:
    threads = torch.get_num_threads()
    speeds = layer_speeds(model, 2, rounds=2, progress=False)
    assert torch.get_num_threads() == threads
    layers = [row for row in coverage(model).rows if row.macs]
    assert [(row.name, row.kind) for row in speeds.rows] == [(row.name, row.kind) for row in layers]
    for row in speeds.rows:
        assert row.int8_us > 0 and row.fp32_us > 0
        assert (row.bf16_us is not None) == ("bf16" in native_float_types())
        assert 0 < row.useful_share <= row.nominal_share
        assert row.strategy
    macs = {row.name: row.macs for row in layers}
    for row in speeds.rows:
        rate = 2 * macs[row.name] / (row.int8_us * 1e-6)
        assert row.nominal_share == pytest.approx(rate / speeds.ceiling)
    assert len(json.loads(json.dumps(speeds.to_dicts()))) == len(layers)


def test_a_dynamic_layer_is_all_its_steps(model: IntegerModel) -> None:
    x = torch.randn(4, 12)
    dynamic = quantize(nn.Sequential(nn.Linear(12, 8)), [x], "int8-dynamic")
    steps = [step["name"] for step in _C.engine_steps(_program(dynamic))]
    assert steps.count("0") == 2
    (row,) = layer_speeds(dynamic, 1, rounds=2, progress=False).rows
    assert row.name == "0" and row.int8_us > 0


def _program(model: IntegerModel) -> torch.Tensor:
    from ptqx.graph import compile

    return compile(model, torch.zeros(1, *model.graph.input_shape)).program


def test_layers_where_float_wins_are_named() -> None:
    def row(name: str, int8: float, fp32: float, bf16: float | None) -> LayerSpeed:
        return LayerSpeed(name, "conv2d", int8, fp32, bf16, 0.5, 0.4, "regions 96x1")

    wins = row("wins", 1.0, 4.0, 2.0)
    assert (wins.fastest, row("a", 3.0, 2.0, None).fastest, row("b", 3.0, 2.0, 1.0).fastest) == (
        *("int8", "fp32", "bf16"),
    )
    text = str(LayerSpeeds((wins, row("loses", 3.0, 2.0, None)), 1, 1e9))
    assert text.endswith("float is faster for loses (fp32)")
    assert "4.00" in text and "50 %" in text and "40 %" in text and "regions 96x1" in text
    assert str(LayerSpeeds((wins,), 1, 1e9)).endswith("int8 is fastest for every layer")


def test_bad_arguments_are_named(model: IntegerModel) -> None:
    with pytest.raises(PtqxError, match="batch must be at least 1, got 0"):
        layer_speeds(model, 0)
    with pytest.raises(PtqxError, match="rounds must be at least 1, got 0"):
        layer_speeds(model, rounds=0)
