"""Curvature against closed forms: of one linear layer, cross-entropy's Hessian and gradients are known."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from ptqx import data
from ptqx.errors import PtqxError
from ptqx.study.curvature import (
    empirical_fisher,
    float_network,
    hessian_traces,
    labelled_batches,
    layer_weights,
)
from torch import Tensor, nn


@pytest.fixture
def linear() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval()
    return model, torch.randn(40, 3, 2, 2), torch.randint(0, 5, (40,))


def test_trace_is_that_of_the_closed_form(linear: tuple[nn.Module, Tensor, Tensor]) -> None:
    model, x, y = linear
    network = float_network(model, x)
    p = model(x).softmax(1)
    exact = ((1 - p.square().sum(1)) * x.flatten(1).square().sum(1)).mean().item()
    estimate = hessian_traces(network, [(x, y)], probes=200)["1"]
    assert estimate == pytest.approx(exact, rel=0.1)
    parts = hessian_traces(network, [(x[:10], y[:10]), (x[10:], y[10:])], probes=200)["1"]
    assert parts == pytest.approx(exact, rel=0.1)
    assert hessian_traces(network, [(x, y)], probes=2) == hessian_traces(network, [(x, y)], probes=2)


def test_every_layers_own_block_is_traced() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).eval()
    x, y = torch.randn(30, 1, 3, 3), torch.randint(0, 3, (30,))
    network = float_network(model, x)
    weights = layer_weights(network)
    loss = F.cross_entropy(network.float_output(x), y)
    for (name, weight), estimate in zip(
        weights.items(), hessian_traces(network, [(x, y)], probes=1000).values(), strict=True
    ):
        (gradient,) = torch.autograd.grad(loss, weight, create_graph=True)
        diagonal = [
            torch.autograd.grad(g, weight, retain_graph=True)[0].flatten()[i]
            for i, g in enumerate(gradient.flatten())
        ]
        assert estimate == pytest.approx(float(torch.stack(diagonal).sum()), rel=0.15), name


def test_fisher_is_the_mean_of_squared_gradients(linear: tuple[nn.Module, Tensor, Tensor]) -> None:
    model, x, y = linear
    residual = model(x).softmax(1) - F.one_hot(y, 5)
    exact = torch.einsum("no,ni->oi", residual.square(), x.flatten(1).square()) / len(x)
    (found,) = empirical_fisher(float_network(model, x), [(x[:15], y[:15]), (x[15:], y[15:])]).values()
    torch.testing.assert_close(found, exact.detach())


def test_batch_norms_are_part_of_the_weights_that_are_bent() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([4.0, 0.25]))
        model[1].running_var.fill_(1.0 - model[1].eps)
    weight = layer_weights(float_network(model, torch.zeros(1, 1, 3, 3)))["0"]
    torch.testing.assert_close(weight, model[0].weight * torch.tensor([4.0, 0.25])[:, None, None, None])


def test_images_for_losses_are_not_those_of_calibration() -> None:
    digits = data.load("digits")
    batches = labelled_batches(digits, 100, 64, seed=3)
    assert sum(len(x) for x, _ in batches) == 100
    calibration = digits.normalize(data.calibration_split(digits, 64, 3).images).flatten(1)
    seen = torch.cat([x.flatten(1) for x, _ in batches])
    nearest = torch.cdist(seen, calibration).amin(1)
    assert int((nearest == 0).sum()) <= 1  # two digits may look alike
    assert sum(len(x) for x, _ in labelled_batches(batches, 70, 64, seed=3)) == 70


def test_batches_without_labels_are_refused(linear: tuple[nn.Module, Tensor, Tensor]) -> None:
    model, x, _ = linear
    with pytest.raises(PtqxError, match="the loss needs labels"):
        hessian_traces(float_network(model, x), [x])  # type: ignore[list-item]
    with pytest.raises(PtqxError, match="the loss needs labels"):
        labelled_batches([], 10, 10, 0)
