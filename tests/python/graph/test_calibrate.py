from __future__ import annotations

import networks
import pytest
import torch
from ptqx.errors import PtqxError
from ptqx.graph import calibrate, prepare, quantize
from torch import nn

X = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(6)


@pytest.mark.parametrize(
    "loader",
    [[X], [(X, Y)], [[X, Y]], list(X.split(2)), iter([X[:2], X[2:]])],
    ids=["tensor", "tuple", "list", "batches", "iterator"],
)
def test_calibrate_takes_any_loader_and_any_split_gives_the_same_scales(loader: object) -> None:
    reference = calibrate(prepare(make(), "int8", X), [X])
    prep = calibrate(prepare(make(), "int8", X), loader)
    for key, value in reference.state_dict().items():
        assert torch.equal(prep.state_dict()[key], value), key


def make() -> nn.Module:
    torch.manual_seed(0)
    return networks.Residual()


def test_calibrate_twice_forgets_the_first_time() -> None:
    prep = calibrate(prepare(make(), "int8", X), [X * 100])
    calibrate(prep, [X])
    reference = calibrate(prepare(make(), "int8", X), [X])
    assert torch.equal(prep.eval()(X), reference.eval()(X))


def test_calibrate_restores_every_mode() -> None:
    prep = prepare(make().train(), "int8", X)
    prep.bn1.eval()
    calibrate(prep, [X])
    assert prep.training and not prep.bn1.training and prep.bn2.training and not prep.observing


@pytest.mark.parametrize("loader", [[], [X[:0]]], ids=["no batch", "empty batch"])
def test_calibrate_on_an_empty_set_raises(loader: list[torch.Tensor]) -> None:
    with pytest.raises(PtqxError, match="calibration set is empty"):
        calibrate(prepare(make(), "int8", X), loader)


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=str)
def test_calibrate_with_bad_values_names_place_and_count(value: float) -> None:
    x = X.clone()
    x[0, 0, 0, 0] = value
    with pytest.raises(PtqxError, match=r"input: 1 of 1152 values are NaN or infinite"):
        calibrate(prepare(make(), "int8", X), [x])


def test_prepare_with_bad_weights_names_layer_and_count() -> None:
    model = make()
    with torch.no_grad():
        model.conv2.weight[0, 0, 0] = float("inf")
    with pytest.raises(PtqxError, match=r"conv2.weight: 3 of 576 values are NaN or infinite"):
        prepare(model, "int8", X)


@pytest.mark.parametrize(
    "batch",
    [X[:, :2], X.int(), X[0], "x", (), {"x": X}],
    ids=["channels", "dtype", "rank", "str", "tuple", "dict"],
)
def test_calibrate_with_batches_that_do_not_fit_says_what_came(batch: object) -> None:
    with pytest.raises(PtqxError, match="loader: expected"):
        calibrate(prepare(make(), "int8", X), [batch])


@pytest.mark.parametrize("loader", [[X], iter([(X, Y), (X, Y)])], ids=["list", "iterator"])
def test_quantize_in_one_call_equals_the_steps(loader: object) -> None:
    model = make()
    got = quantize(model, loader)
    expected = calibrate(prepare(model, "int8", X), [X]).eval()
    assert torch.equal(got(X), expected(X))


def test_quantize_with_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(PtqxError, match=r"int8-dynamik.*int8-dynamic"):
        quantize(make(), [X], "int8-dynamik")
