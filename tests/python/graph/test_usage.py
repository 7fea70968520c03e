"""What a batch uses of accumulators and codes, and what would help where it uses little."""

from __future__ import annotations

import json
from dataclasses import replace

import networks
import pytest
import torch
from ptqx.errors import PtqxError
from ptqx.graph import compile, explain, explain_value, level_usage, quantize
from ptqx.quant import recipe
from torch import nn

X = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_seen_accumulators_are_those_of_all_values() -> None:
    model = quantize(
        nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)), [X], "int8"
    )
    usage = level_usage(model, X[:2])
    first, last = usage.rows
    seen = max(
        abs(explain_value(model, X, "0", c, y, x, sample=s).accumulator)
        for s in range(2)
        for c in range(2)
        for y in range(6)
        for x in range(6)
    )
    assert first.seen_bits == seen.bit_length() + 1
    assert first.seen_bits <= first.accumulator_bits <= 32
    assert last.clipped is None and last.unused is None
    assert first.kernel == next(row.kernel for row in explain(model).rows if row.name == "0")
    assert level_usage(compile(model, X), X[:2]).rows == usage.rows
    assert len(json.loads(json.dumps(usage.to_dicts()))) == 2


def test_clipped_and_idle_codes_are_counted_and_named() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    base = recipe("int8")
    assert base.activations is not None
    clipping = replace(base.activations, observer="percentile", observer_args={"percentile": 90.0})
    model = quantize(network, [X], replace(base, activations=clipping))
    values: dict[str, torch.Tensor] = {}
    model.run(X, values)
    row = level_usage(model, X).rows[0]
    codes = values["0"]
    assert row.clipped == pytest.approx(float((codes == 255).float().mean()))
    assert row.clipped > 0.01 and any("observer minmax" in words for words in row.help)
    assert row.unused == pytest.approx(1 - len(codes.unique()) / 256)
    wide = quantize(
        network, [50 * X], replace(base, activations=replace(base.activations, observer="minmax"))
    )
    row = level_usage(wide, X).rows[0]
    assert row.clipped == 0 and row.unused is not None and row.unused > 0.9
    assert any("codes lie idle" in words for words in row.help)
    assert "codes lie idle" in str(level_usage(wide, X))


def test_gaps_between_rare_codes_are_no_reason_for_a_narrower_range() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    model = quantize(network, [X], "int8")
    values: dict[str, torch.Tensor] = {}
    model.run(X[:1], values)
    row = level_usage(model, X[:1]).rows[0]
    codes = values["0"]
    assert row.unused is not None and row.unused > 0.25  # so few values can't have all codes
    assert row.beyond == pytest.approx(1 - (int(codes.max()) - int(codes.min()) + 1) / 256)
    assert any("codes lie idle" in words for words in row.help) == (row.beyond > 0.25)


def test_constant_channels_and_idle_weight_codes_are_named() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    with torch.no_grad():
        network[0].weight[2] = 0.0
        network[0].weight[0, 0, 0, 0] = 50.0
        network[0].weight[1, 0, 0, 0] = 50.0
        network[0].weight[3, 0, 0, 0] = 50.0
    row = level_usage(quantize(network, [X], "int4"), X).rows[0]
    assert row.constant_channels >= 1
    text = "; ".join(row.help)
    assert "give one value: remove them" in text
    coarse = level_usage(quantize(network, [X], recipe("w4a8", edge_bits=None)), X).rows[0]
    assert coarse.weight_unused > 0.5 and any("weights use few codes" in words for words in coarse.help)


def test_residual_networks_have_a_row_for_every_layer() -> None:
    model = quantize(networks.with_statistics(networks.Residual()), [X])
    layers = [row.name for row in explain(model).rows if row.macs]
    assert [row.layer for row in level_usage(model, X).rows] == layers


def test_bad_arguments_raise() -> None:
    model = quantize(nn.Sequential(nn.Conv2d(3, 4, 3)), [X], "int8")
    with pytest.raises(PtqxError, match="inputs: expected at least one image"):
        level_usage(model, X[:0])
    with pytest.raises(PtqxError, match="expected an integer model or an engine"):
        level_usage(nn.ReLU(), X)
    with pytest.raises(PtqxError, match="no layer has int32 accumulators"):
        level_usage(quantize(nn.Sequential(nn.Conv2d(3, 4, 3)), [X], "int8-dynamic"), X)
