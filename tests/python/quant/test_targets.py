"""Targets: every recipe can be fitted to every target, and what does not fit is named."""

from __future__ import annotations

import itertools

import pytest
import torch
from ptqx.errors import PtqxError
from ptqx.graph import quantize
from ptqx.models import cnn
from ptqx.quant import Recipe, Scheme, fitted, presets, recipe, unmet
from ptqx.quant.targets import TARGETS


@pytest.mark.parametrize(("name", "target"), list(itertools.product([*presets(), "w3a5"], TARGETS)))
def test_every_recipe_can_be_fitted(name: str, target: str) -> None:
    changed = fitted(recipe(name), target)
    assert unmet(changed, target) == []
    assert fitted(changed, target) == changed
    if not unmet(recipe(name), target):
        assert changed == recipe(name)


def test_presets_that_are_made_for_a_target_fit() -> None:
    assert not unmet(recipe("int8"), "cpu") and not unmet(recipe("int4"), "cpu")
    exchange = recipe("int8", residual="requantized")
    assert not unmet(exchange, "onnxruntime") and not unmet(exchange, "openvino")


@pytest.mark.parametrize("target", TARGETS)
def test_a_fitted_recipe_quantizes(target: str) -> None:
    x = torch.randn(8, 1, 8, 8)
    model = quantize(cnn(in_channels=1, num_classes=10, width=4).eval(), [x], fitted(recipe("w4a4"), target))
    assert not any(node.op.endswith(("_float", "_simulated")) for node in model.graph)


def test_powers_of_two_on_the_device() -> None:
    x = torch.randn(8, 1, 8, 8)
    model = quantize(
        cnn(in_channels=1, num_classes=10, width=4).eval(), [x], fitted(recipe("int8"), "pow2-device")
    )
    scales = [t for name, t in model.tensors().items() if name.endswith("scale")]
    assert all(t.numel() == 1 and float(torch.frexp(t)[0]) == 0.5 for t in scales)


def test_levels_that_are_no_whole_numbers_have_no_integer_kernel() -> None:
    (finding,) = unmet(recipe("shift"), "cpu")[:1]
    assert (finding.where, finding.value) == ("weights.levels", "shift")
    assert not unmet(recipe("kmeans"), "cpu")


def test_overrides_are_checked_and_fitted() -> None:
    mixed = recipe(
        "int8", overrides={"features.*": {"weights": {"bits": 4}}, "classifier": {"weights": None}}
    )
    findings = unmet(mixed, "openvino")
    assert {finding.where for finding in findings} == {
        "residual",
        "overrides['features.*'].weights.bits",
        "overrides['classifier'].weights",
    }
    assert unmet(fitted(mixed, "openvino"), "openvino") == []


def test_recipe_takes_a_target() -> None:
    assert recipe("int8", target="cpu") == recipe("int8")
    with pytest.raises(PtqxError, match=r"target 'openvino' can't .* weights.bits=4 .*: use 8; residual="):
        recipe("int4", target="openvino")
    with pytest.raises(PtqxError, match="unknown target 'opnvino'; did you mean openvino"):
        recipe("int4", target="opnvino")
    grouped = Recipe(Scheme(bits=4, granularity="group", group_size=8), Scheme(signed=False, symmetric=False))
    assert fitted(grouped, "cpu").weights == Scheme(bits=4, granularity="channel")
