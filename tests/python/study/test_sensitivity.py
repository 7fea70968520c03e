"""Layers made to lose are found, with the cause."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from ptqx import data, models
from ptqx.errors import PtqxError
from ptqx.quant import recipe
from ptqx.study import sensitivity
from ptqx.train import TrainConfig, evaluate, fit
from torch import nn

Digits = tuple[data.ImageDataset, data.ImageDataset]


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    torch.manual_seed(0)
    model = models.cnn(width=8)
    train, test = data.load("digits"), data.load("digits", split="test")
    fit(model, train, test, TrainConfig(epochs=4, batch_size=64, amp="off"), device="cpu", progress=False)
    return model.eval()


def test_fewer_bits_cost_more_in_every_layer(trained: nn.Module, digits: Digits) -> None:
    two, eight = (sensitivity(trained, *digits, bits=b, images=128) for b in (2, 8))
    assert eight.float_top1 == pytest.approx(evaluate(trained, digits[1]).top1)
    for few, many in zip(two.rows, eight.rows, strict=True):
        assert few.layer == many.layer
        assert few.output_db < many.output_db - 10
        assert few.weight_db < many.weight_db
        assert few.loss_ci95[0] <= few.loss_increase <= few.loss_ci95[1]
    assert max(row.loss_increase for row in two.rows) > 10 * max(abs(row.loss_increase) for row in eight.rows)
    assert max(abs(row.drop) for row in eight.rows) <= 1.0


def test_orders(trained: nn.Module, digits: Digits) -> None:
    result = sensitivity(trained, *digits, bits=2, images=128, hessian_images=100)
    for order, key in (
        ("loss", lambda row: -row.loss_increase),
        ("top1", lambda row: -row.drop),
        ("sqnr", lambda row: row.output_db),
        ("hessian", lambda row: -row.hessian_trace),
        ("size", lambda row: -row.size_bytes),
        ("time", lambda row: -row.milliseconds),
    ):
        assert [key(row) for row in result.ranked(order)] == sorted(key(row) for row in result.rows)
    assert result.to_markdown().splitlines()[2].split()[1] == result.ranked()[0].layer
    value, low, high = result.contrast() or (0.0, 0.0, 0.0)
    linear = [row.loss_increase for row in result.rows if row.op == "linear"]
    conv = [row.loss_increase for row in result.rows if row.op == "conv2d"]
    assert value == pytest.approx(sum(conv) / len(conv) - sum(linear) / len(linear))
    assert low <= value <= high
    assert result.contrast("conv2d", "matmul") is None


def test_costs_are_those_of_the_converted_model(trained: nn.Module, digits: Digits) -> None:
    from ptqx.graph import quantize
    from ptqx.study.curvature import float_network, hessian_traces, labelled_batches
    from ptqx.study.layer_costs import layer_bytes

    chosen = recipe("w4a8", edge_bits=None)
    result = sensitivity(trained, *digits, recipe=chosen, images=64, hessian_images=50, seed=2)
    x = digits[0].normalize(digits[0].images[:64])
    assert {row.layer: row.size_bytes for row in result.rows} == layer_bytes(quantize(trained, [x], chosen))
    assert all(row.milliseconds is not None and row.milliseconds > 0 for row in result.rows)
    labelled = labelled_batches(digits[1], 50, 0, 2)
    traces = hessian_traces(float_network(trained, x[:2]), labelled, seed=2)
    assert {row.layer: row.hessian_trace for row in result.rows} == traces
    without = sensitivity(trained, *digits, bits=4, images=64)
    with pytest.raises(PtqxError, match="by: 'hessian' was not measured"):
        without.ranked("hessian")


def test_recipes_that_the_engine_does_not_run_have_sizes_and_no_times(
    trained: nn.Module, digits: Digits
) -> None:
    wide, narrow = (
        sensitivity(trained, *digits, recipe=name, images=64).rows for name in ("fixed16", "int8")
    )
    assert [row.milliseconds for row in wide] == [None] * 4
    sizes = {row.layer: row.size_bytes for row in narrow}
    assert all(row.size_bytes > sizes[row.layer] for row in wide)


def test_a_layer_made_bad_comes_first_with_the_cause(trained: nn.Module, digits: Digits) -> None:
    import copy

    model = copy.deepcopy(trained)
    with torch.no_grad():
        model.features[3].weight[0] *= 60  # a channel that reaches far, undone by its batch norm
        model.features[4].running_mean[0] *= 60
        model.features[4].running_var[0] *= 3600
        model.features[4].weight[0] *= 60
        model.features[4].weight[1:4] = 0.0
        model.features[7].weight[:, 0] /= 60
        model.features[4].bias[0] *= 60
    per_tensor = recipe("w4a4", edge_bits=None)
    assert per_tensor.weights is not None
    per_tensor = replace(per_tensor, weights=replace(per_tensor.weights, granularity="tensor"))
    result = sensitivity(model, *digits, recipe=per_tensor, images=128)
    worst = result.ranked("sqnr")[0]
    assert worst.layer in ("features.3", "features.7")
    causes = {row.layer: "; ".join(row.causes) for row in result.rows}
    assert "outlier channel in the weights" in causes["features.3"]
    assert "dead channels: 3" in causes["features.3"]
    assert "outlier channel in the input" in causes["features.7"]


def test_clipped_and_saturated_input_is_named(trained: nn.Module, digits: Digits) -> None:
    clipping = recipe("int8")
    assert clipping.activations is not None
    observer = replace(clipping.activations, observer="percentile", observer_args={"percentile": 60.0})
    result = sensitivity(trained, *digits, recipe=replace(clipping, activations=observer), images=128)
    causes = next("; ".join(row.causes) for row in result.rows if row.layer == "features.7")
    assert "clipped range" in causes
    assert "saturated activation" in causes


def test_values_at_the_largest_code_are_not_saturated(trained: nn.Module, digits: Digits) -> None:
    chosen = recipe("w4a4", edge_bits=None)
    assert chosen.activations is not None
    widest = replace(chosen, activations=replace(chosen.activations, observer="minmax"))
    result = sensitivity(trained, *digits, recipe=widest, images=len(digits[0]))
    share = (digits[1].images == digits[1].images.max()).double().mean()
    assert share > 0.01  # white pixels: they have the largest code, and it stands for white
    assert not any("saturated" in cause for cause in result.rows[0].causes)


def test_batches_in_place_of_data_sets(small_cnn: nn.Module, digits: Digits) -> None:
    batches = list(data.Loader(digits[1], 60))
    result = sensitivity(small_cnn, [x for x, _ in batches], batches, bits=4)
    assert result.increases.shape == (4, 120)


def test_bad_arguments_raise(small_cnn: nn.Module, digits: Digits) -> None:
    with pytest.raises(PtqxError, match="static activations, got a dynamic one"):
        sensitivity(small_cnn, *digits, recipe="int8-dynamic")
    with pytest.raises(PtqxError, match="by: expected loss, top1, sqnr, hessian, size, time, got 'accuracy'"):
        sensitivity(small_cnn, *digits, images=16).ranked("accuracy")
