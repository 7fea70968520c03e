"""One value followed by hand, against the codes that the model gives and exact arithmetic."""

from __future__ import annotations

import json
from fractions import Fraction

import networks
import pytest
import torch
import torch.nn.functional as F
from ptqx.errors import PtqxError
from ptqx.graph import IntegerModel, compile, explain_value, level_usage, quantize
from ptqx.graph.accumulators import accumulating_layers, accumulator_bound
from ptqx.graph.operators.stored_weights import stored_codes
from ptqx.graph.value_trace import SHOWN_TAPS
from ptqx.quant import Recipe, Scheme, recipe
from torch import nn

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def values_of(model: IntegerModel, sample: int) -> dict[str, torch.Tensor]:
    values: dict[str, torch.Tensor] = {}
    model.run(X[sample : sample + 1], values)
    return values


@pytest.mark.parametrize("name", ["int8", "w4a4", "w2a8", "kmeans"])
def test_every_layer_of_a_residual_network_can_be_followed(name: str) -> None:
    model = quantize(networks.with_statistics(networks.Residual()), [X], name)
    residuals = 0
    for node in accumulating_layers(model):
        y = values_of(model, 1)[node.name][0]
        for flat in (0, y.numel() // 2, y.numel() - 1):
            place = [int(i) for i in torch.unravel_index(torch.tensor(flat), y.shape)]
            trace = explain_value(model, X, node.name, *place, sample=1)
            assert trace.products == sum(tap.product for tap in trace.taps)
            assert trace.accumulator == trace.products + (trace.bias or 0)
            assert abs(trace.accumulator) <= trace.bound < 2**31
            assert len(trace.taps) + trace.padding == torch.Size(node.attrs["weight_shape"][1:]).numel()
            residuals += trace.residual is not None
            if trace.code is None:
                assert trace.real == float(y.flatten()[flat])
            else:
                assert trace.code == int(y.flatten()[flat])
                assert trace.real == float((trace.code - trace.output.zero_point) * trace.output.scale)
    assert residuals


def test_a_prelu_says_the_slope_of_the_channel() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.PReLU(2), nn.Conv2d(2, 4, 3))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([0.25, -0.5]))
    model = quantize(network, [X], "int8")
    assert [explain_value(model, X, "0", c, 1, 1).activation for c in (0, 1)] == [
        "prelu(0.25)",
        "prelu(-0.5)",
    ]


@pytest.mark.parametrize("name", ["int8-multiplier", "fixed8", "fixed16"])
def test_layers_without_floats_can_be_followed(name: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(64, 5))
    model = quantize(network, [X], name)
    values = values_of(model, 1)
    layers = accumulating_layers(model)
    assert [node.name for node in layers] == ["0", "2", "4"]
    usage = level_usage(model, X)
    for node, used in zip(layers, usage.rows, strict=True):
        y = values[node.name][0]
        for flat in range(0, y.numel(), max(1, y.numel() // 7)):
            place = [int(i) for i in torch.unravel_index(torch.tensor(flat), y.shape)]
            trace = explain_value(model, X, node.name, *place, sample=1)
            assert trace.accumulator == sum(tap.product for tap in trace.taps) + (trace.bias or 0)
            assert abs(trace.accumulator) <= trace.bound
            if trace.fixed is None:  # the last layer gives real values
                assert trace.code is None and trace.real == float(y.flatten()[flat])
                continue
            fixed = trace.fixed
            exact = Fraction(trace.accumulator * fixed.multiplier, 2**fixed.shift)
            assert fixed.rounded == round(exact)  # Fractions round half to even
            assert trace.code == fixed.code == int(y.flatten()[flat])
            assert f"{fixed.multiplier} / 2**{fixed.shift}" in str(trace)
            assert json.loads(json.dumps(trace.to_dict()))["fixed"]["shift"] == fixed.shift
            after_relu = node.name == "0" and fixed.rounded + int(trace.output.zero_point) < fixed.low
            assert not (after_relu and trace.clipped)
        assert used.seen_bits <= used.accumulator_bits
        assert name == "int8-multiplier" or not any("codes lie idle" in words for words in used.help)
        assert (used.clipped is None) == (node.output.dtype == "float32")


def test_products_are_those_of_a_convolution_of_codes() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2)
    model = quantize(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), layer), [X], "int8")
    values = values_of(model, 2)
    source = model.output("0")
    centered = values["0"].double() - source.zero_point.double()
    weight = model.tensor(model.graph.nodes["2"], "weight").double()
    sums = F.conv2d(centered, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    for channel, y, x in ((0, 0, 0), (5, 3, 2), (3, 1, 5)):
        trace = explain_value(model, X, "2", channel, y, x, sample=2)
        assert trace.products == int(sums[0, channel, y, x])
        for tap in trace.taps:
            assert tap.code == int(values["0"][0, tap.channel, tap.y, tap.x])
            assert tap.real == pytest.approx(float((tap.code - source.zero_point) * source.scale))
    assert accumulator_bound(model, model.graph.nodes["2"]) == max(
        int(255 * w.abs().sum() + b.abs()) if source.zero_point == 0 else 0
        for w, b in zip(weight, model.tensor(model.graph.nodes["2"], "bias"), strict=True)
    )


def test_first_layer_shows_the_floats_of_the_image() -> None:
    model = quantize(nn.Sequential(nn.Conv2d(3, 4, 3)), [X], "int8")
    trace = explain_value(compile(model, X), X, "0", 1, 2, 3, sample=3)
    for tap in trace.taps:
        assert tap.real == float(X[3, tap.channel, tap.y, tap.x])
        assert tap.code == int(
            torch.clamp(
                (X[3, tap.channel, tap.y, tap.x] / trace.input.scale).round() + trace.input.zero_point, 0, 255
            )
        )
    text = str(trace)
    assert "0 (conv2d), sample 3, channel 1, y 2, x 3" in text
    assert f"{27 - SHOWN_TAPS} more" in text
    for number in (trace.products, trace.accumulator, trace.bound):
        assert f"{number}" in text
    assert "the same as the model gives" in text


def test_values_that_are_clipped_say_so() -> None:
    narrow = recipe("int8")
    assert narrow.activations is not None
    from dataclasses import replace

    clipping = replace(narrow.activations, observer="percentile", observer_args={"percentile": 60.0})
    model = quantize(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)),
        [X],
        replace(narrow, activations=clipping),
    )
    y = values_of(model, 0)["0"][0]
    c, i, j = (int(index) for index in (y == 255).nonzero()[0])
    trace = explain_value(model, X, "0", c, i, j)
    assert trace.clipped and trace.code == 255 and trace.activated > 255.5
    assert "clipped" in str(trace)
    c, i, j = (int(index) for index in ((y > 0) & (y < 255)).nonzero()[0])
    assert not explain_value(model, X, "0", c, i, j).clipped


def test_float_bias_is_a_step_of_its_own() -> None:
    chosen: Recipe = recipe("int8", bias="float32")
    model = quantize(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)), [X], chosen)
    trace = explain_value(model, X, "0", 2, 1, 1)
    assert trace.bias is None and trace.float_bias is not None
    assert trace.accumulator == trace.products
    assert "+ bias, float32" in str(trace)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (("1", 0, 0, 0), "unknown layer '1'"),
        (("0", 4, 0, 0), "channel: expected 0 to 3 in 0, got 4"),
        (("0", 0, 6, 0), "y: expected 0 to 5 in 0, got 6"),
        (("0", 0, 0, 0, 4), "sample: expected 0 to 3, got 4"),
    ],
)
def test_places_that_do_not_exist_are_named(place: tuple[str, int, int, int], message: str) -> None:
    model = quantize(nn.Sequential(nn.Conv2d(3, 4, 3)), [X], "int8")
    with pytest.raises(PtqxError, match=message):
        explain_value(model, X, *place)


def test_dynamic_layers_are_followed_by_the_range_of_the_sample() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 5))
    model = quantize(network, [X], "int8-dynamic")
    values = values_of(model, 2)
    scales = set()
    for layer, reads in (("0", X[2]), ("3", values["2"][0])):
        y = values[layer][0]
        for flat in range(0, y.numel(), max(1, y.numel() // 7)):
            place = [int(i) for i in torch.unravel_index(torch.tensor(flat), y.shape)]
            trace = explain_value(model, X, layer, *place, sample=2)
            assert trace.code is None and trace.real == float(y.flatten()[flat])
            assert trace.accumulator == trace.products == sum(tap.product for tap in trace.taps)
            assert abs(trace.accumulator) <= trace.bound
            low, high = min(0.0, float(reads.min())), max(0.0, float(reads.max()))
            assert float(trace.input.scale) == pytest.approx((high - low) / 255)
            for tap in trace.taps:
                at = (tap.channel, tap.y, tap.x) if reads.dim() == 3 else (tap.channel,)
                assert tap.real == float(reads[at])
        scales.add(float(explain_value(model, X, layer, 0, sample=1).input.scale))
        assert "as found in this sample" in str(trace)
        assert json.loads(json.dumps(trace.to_dict()))["input"]["qmax"] == 255
    assert len(scales) == 2 and float(trace.input.scale) not in scales


@pytest.mark.parametrize("bits", [4, 8])
def test_groups_have_sums_of_their_own(bits: int) -> None:
    weights = Scheme(bits=bits, granularity="group", group_size=8)
    network = nn.Sequential(
        nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Conv2d(12, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)
    )
    model = quantize(network, [X], recipe("int8", weights=weights, edge_bits=None))
    values = values_of(model, 3)
    for layer, groups in (("2", 2), ("5", 8)):
        codes = stored_codes(model, model.graph.nodes[layer])
        y = values[layer][0]
        for flat in range(0, y.numel(), max(1, y.numel() // 7)):
            place = [int(i) for i in torch.unravel_index(torch.tensor(flat), y.shape)]
            trace = explain_value(model, X, layer, *place, sample=3)
            got = trace.real if trace.code is None else trace.code
            assert got == float(y.flatten()[flat])
            assert len(trace.groups) == groups and trace.weight_scale is None and trace.multiplier is None
            assert [group.weight_scale for group in trace.groups] == codes.scale[place[0]].tolist()
            for number, group in enumerate(trace.groups):
                own = [tap.product for tap in trace.taps if tap.channel // 8 == number]
                assert group.products == sum(own) and abs(group.products) <= trace.bound
                assert group.scaled == pytest.approx(group.products * group.multiplier)
            assert trace.scaled == pytest.approx(sum(group.scaled for group in trace.groups), abs=1e-4)
        assert f"an s for each of {groups} groups" in str(trace)
        assert f"sum of products of group {groups - 1}, int32" in str(trace)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("int8-weight-only", r"0 \(conv2d_float\) .* computes in float; quantize its inputs too"),
        ("shift", r"0 \(conv2d_simulated\) .* no whole numbers; use levels on the int8 grid"),
    ],
)
def test_layers_that_compute_in_float_say_what_to_use(name: str, message: str) -> None:
    model = quantize(nn.Sequential(nn.Conv2d(3, 4, 3)), [X], recipe(name, edge_bits=None))
    with pytest.raises(PtqxError, match=message):
        explain_value(model, X, "0", 0)


def test_only_integer_models_can_be_followed() -> None:
    with pytest.raises(PtqxError, match="expected an integer model or an engine, got Conv2d"):
        explain_value(nn.Conv2d(3, 4, 3), X, "0", 0)
