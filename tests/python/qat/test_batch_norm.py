"""What quantized weights and batch norm statistics have to do with each other while a network is trained."""

from __future__ import annotations

import math

import pytest
import torch
from ptqx import graph
from ptqx.graph.weights import folded, integer_layer, layer_codes
from ptqx.qat.batch_norm import BatchNormStatistics, reestimate
from ptqx.quant import Recipe, Scheme, recipe
from ptqx.quant.presets import activation_scheme
from torch import Tensor, nn

Batches = list[tuple[Tensor, Tensor]]
UNFOLDED = ["w2a2", "w4a4", "int8", "apot", "kmeans", "ternary", "ttq", "binary", "pow2"]
PER_GROUP = Recipe(Scheme(bits=4, granularity="group", group_size=4), activation_scheme(8), bias="float32")


def prepared(trained: nn.Module, name: str | Recipe, calibration: Batches) -> graph.SimulatedModel:
    return graph.calibrate(graph.prepare(trained, name, calibration[0][0][:1], qat=True), calibration)


def normalized(prep: graph.SimulatedModel) -> list[graph.ir.Node]:
    return [node for node in prep.graph if "bn_eps" in node.attrs and node.kind != "float"]


@pytest.mark.parametrize("name", [*UNFOLDED, PER_GROUP])
def test_no_code_depends_on_a_variance(trained: nn.Module, calibration: Batches, name: str | Recipe) -> None:
    prep = prepared(trained, name, calibration)
    nodes = normalized(prep)
    assert nodes
    for node in nodes:
        before = layer_codes(prep, node, folded(prep, node)[0])
        prep.tensor(node.params["bn_running_var"]).mul_(1 / 64)
        after = layer_codes(prep, node, folded(prep, node)[0])
        # The scale grows by about 8; that a value at the border of two codes is rounded otherwise is rare.
        assert (before.values != after.values).double().mean() < 1e-3
        assert bool((after.scale > 6 * before.scale).all())


@pytest.mark.parametrize(
    "scheme",
    [Scheme(bits=4), Scheme(bits=8, signed=False, symmetric=False, granularity="channel", levels="shift")],
)
def test_shared_scales_fit_the_folded_weights(
    trained: nn.Module, calibration: Batches, scheme: Scheme
) -> None:
    name = Recipe(scheme, activation_scheme(8), quantizer="moving_average")
    prep = prepared(trained, name, calibration)
    for node in normalized(prep):
        weight = folded(prep, node)[0]
        codes = layer_codes(prep, node, weight)
        worst = (codes.real() - weight).abs().amax()
        assert worst <= 0.51 * codes.scale.max()


@pytest.mark.parametrize("name", ["w2a2", "w4a4", "int8", "binary"])
def test_training_and_integers_see_the_same_codes(
    trained: nn.Module, calibration: Batches, name: str
) -> None:
    prep = prepared(trained, name, calibration)
    bn = next(m for m in prep.modules() if isinstance(m, nn.BatchNorm2d))
    with torch.no_grad():
        bn.weight[::2] *= -1  # channels whose factor is negative
    graph.calibrate(prep, calibration)
    x = calibration[0][0]
    prep.train()
    for norm in (m for m in prep.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.eval()
    node = normalized(prep)[0]
    values: dict[str, Tensor] = {}
    prep.fake_quantized(x, values)
    exact: dict[str, graph.formulas.Codes] = {}
    prep.eval().exact(x, exact)
    real = exact[node.name].real()
    step = exact[node.name].qparams.scale
    # Float sums of training against exact ones: at most a code apart, and seldom.
    difference = (values[node.name] - real).abs() / step
    assert difference.max() < 1.01
    assert (difference > 0.5).double().mean() < 1e-3


def test_a_channel_that_rounds_to_nothing_stays_where_it_is(trained: nn.Module, calibration: Batches) -> None:
    prep = prepared(trained, "w2a2", calibration)
    node = normalized(prep)[0]
    quantizer = prep.weight_quantizer(node)
    with torch.no_grad():
        weight = prep.tensor(node.params["weight"])[0]
        step = float(quantizer.scale[0])
        weight.copy_(torch.linspace(-0.1 * step, 0.1 * step, weight.numel()).reshape(weight.shape))
        if quantizer.midrise is not None:
            quantizer.midrise[0] = 0
        prep.tensor(node.params["bn_running_var"])[0] = 0.0
    layer = integer_layer(prep, node, prep.qparams_of(node.inputs[0]))
    assert not layer.codes.values[0].any()
    assert bool(torch.isfinite(layer.codes.scale).all())


def test_statistics_are_means_over_the_batches(trained: nn.Module, calibration: Batches) -> None:
    prep = prepared(trained, "w4a4", calibration).train()
    batches = [(part, None) for part in calibration[0][0].split(32)]
    norm = next(m for m in prep.modules() if isinstance(m, nn.BatchNorm2d))
    seen: list[Tensor] = []
    handle = norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    norm.running_mean.fill_(1e3)  # what was there counts for nothing
    reestimate(prep, batches)
    handle.remove()
    assert len(seen) == len(batches) > 1
    means = torch.stack([y.mean((0, 2, 3)) for y in seen]).mean(0)
    variances = torch.stack([y.var((0, 2, 3)) for y in seen]).mean(0)
    torch.testing.assert_close(norm.running_mean, means)
    torch.testing.assert_close(norm.running_var, variances)
    assert norm.momentum == nn.BatchNorm2d(1).momentum
    assert all(module.training for module in prep.modules())


def test_statistics_are_found_before_evaluations_and_rest_at_the_end(
    trained: nn.Module, calibration: Batches
) -> None:
    prep = prepared(trained, recipe("w4a4"), calibration).train()
    norm = next(m for m in prep.modules() if isinstance(m, nn.BatchNorm2d))

    def spoil() -> Tensor:
        norm.running_var.fill_(7.0)
        return norm.running_var.clone()

    hook = BatchNormStatistics(1.0, calibration)
    spoiled = spoil()
    hook.begin_evaluation(prep)
    found = norm.running_var.clone()
    assert not torch.equal(found, spoiled)
    spoil()
    hook.begin_step(prep, 1.0)
    assert torch.equal(norm.running_var, found) and not norm.training
    spoiled = spoil()
    prep.train()
    again = BatchNormStatistics(1.0, calibration)
    again.load_state_dict(hook.state_dict())
    again.begin_step(prep, 1.5)
    again.begin_evaluation(prep)
    assert torch.equal(norm.running_var, spoiled) and not norm.training
    given = BatchNormStatistics(0.0, calibration)
    given.begin_step(prep, 0.0)
    given.begin_evaluation(prep)
    assert torch.equal(norm.running_var, spoiled)
    never = BatchNormStatistics(math.inf, calibration)
    never.begin_evaluation(prep)
    assert torch.equal(norm.running_var, found)
