"""Networks whose weights are levels of every kind: simulated = integer = engine, files, sizes."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import networks
import pytest
import torch
from ptqx.errors import PtqxError
from ptqx.graph import (
    IntegerModel,
    SimulatedModel,
    calibrate,
    compile,
    convert,
    coverage,
    load,
    prepare,
    quantize,
    save,
)
from ptqx.quant import LEVELS, Recipe, Scheme, presets, recipe
from torch import nn

INTEGER = ("pow2", "apot", "kmeans", "ternary", "ttq", "binary", "stochastic", "w1a1")
UNSNAPPED = Scheme(bits=4, levels="kmeans", granularity="channel", levels_args={"snapped": False})
SIMULATED = {"shift": recipe("shift"), "unsnapped": recipe("kmeans", weights=UNSNAPPED)}
X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    torch.manual_seed(0)
    return networks.with_statistics(networks.Residual(16)).eval()


def converted(chosen: str | Recipe) -> tuple[SimulatedModel, IntegerModel]:
    prep = calibrate(prepare(network(), chosen, X), [X]).eval()
    return prep, convert(prep)


def test_every_set_of_levels_has_a_preset() -> None:
    chosen = [recipe(name) for name in presets()]
    used = {scheme.levels for r in chosen for scheme in (r.weights, r.activations) if scheme is not None}
    assert used == set(LEVELS)


def test_every_set_of_levels_is_compared_with_its_integers() -> None:
    """By the tests below; those of test_requantize.py have fixed point."""
    chosen = [*map(recipe, (*INTEGER, "int8")), *SIMULATED.values()]
    compared = {s.levels for r in chosen for s in (r.weights, r.activations) if s is not None}
    assert compared | {"fixed"} == set(LEVELS)


@pytest.mark.parametrize("threads", [2, 3])
def test_stochastic_codes_are_the_same_on_any_number_of_threads(threads: int) -> None:
    before = torch.get_num_threads()
    expected = converted("stochastic")[1]
    try:
        torch.set_num_threads(threads)
        model = converted("stochastic")[1]
        assert torch.equal(model(X), expected(X))
        assert torch.equal(compile(model, X)(X), expected(X))
    finally:
        torch.set_num_threads(before)
    codes = [name for name in expected.tensors() if name.endswith("weight")]
    assert codes
    assert all(torch.equal(model.tensors()[name], expected.tensors()[name]) for name in codes)


@pytest.mark.parametrize("edge_bits", [8, None])
@pytest.mark.parametrize("name", INTEGER)
def test_simulated_integer_engine_and_file_are_equal(
    name: str, edge_bits: int | None, tmp_path: Path
) -> None:
    prep, model = converted(recipe(name, edge_bits=edge_bits))
    x = 2 * torch.randn(3, 3, 8, 8)
    expected = prep(x)
    assert torch.equal(model(x), expected)
    assert torch.equal(compile(model, X)(x), expected)
    save(model, tmp_path / "m.ptqx")
    assert torch.equal(load(tmp_path / "m.ptqx")(x), expected)
    assert {row.execution for row in coverage(model).rows} == {"integer"}


@pytest.mark.parametrize("name", INTEGER)
def test_trained_networks_convert_to_the_same_integers(name: str) -> None:
    prep = calibrate(prepare(network(), name, X, qat=True), [X]).train()
    optimizer = torch.optim.SGD(prep.parameters(), 1e-2)
    before = copy.deepcopy(prep.state_dict())
    for _ in range(2):
        optimizer.zero_grad()
        prep(X).square().mean().backward()
        optimizer.step()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in prep.parameters())
    assert any(not torch.equal(before[key], value) for key, value in prep.state_dict().items())
    model = convert(prep)
    assert torch.equal(model(X), prep.eval()(X))
    assert torch.equal(compile(model, X)(X), prep(X))


@pytest.mark.parametrize("name", INTEGER)
def test_training_and_integer_graphs_compile_whole(name: str) -> None:
    prep = calibrate(prepare(network(), name, X, qat=True), [X]).train()
    torch.compiler.reset()  # there is a limit on how many networks one function is compiled for
    torch.compile(prep, fullgraph=True, backend="eager")(X).sum().backward()
    assert all(p.grad is not None for p in prep.parameters())
    model = convert(prep)
    with torch.no_grad():
        assert torch.equal(torch.compile(model, fullgraph=True, backend="eager")(X), model(X))


@pytest.mark.parametrize("levels", ["pow2", "apot", "kmeans", "ternary", "binary"])
def test_groups_of_channels_share_scales(levels: str) -> None:
    bits = {"ternary": 2, "binary": 1}.get(levels, 4)
    weights = Scheme(bits=bits, levels=levels, granularity="group", group_size=4)
    prep, model = converted(recipe("int8", weights=weights, edge_bits=None))
    assert torch.equal(model(X), prep(X))
    assert torch.equal(compile(model, X)(X), prep(X))


@pytest.mark.parametrize("name", SIMULATED)
def test_levels_without_whole_numbers_are_simulated_and_say_so(name: str, tmp_path: Path) -> None:
    prep, model = converted(SIMULATED[name])
    assert torch.equal(model(X), prep(X))
    torch.testing.assert_close(model(X), network()(X), rtol=0.0, atol=0.15)
    rows = [row for row in coverage(model).rows if row.bits is not None]
    inner = [row for row in rows if row.bits != 8 or name == "shift"]
    assert inner and all(row.execution == "simulated" for row in inner)
    assert all("are no whole numbers" in row.reason for row in inner)
    assert coverage(model).mac_share < 1.0
    with pytest.raises(PtqxError, match="the engine runs integer layers only"):
        compile(model, X)
    save(model, tmp_path / "m.ptqx")
    assert torch.equal(load(tmp_path / "m.ptqx")(X), model(X))


@pytest.mark.parametrize("weights", [UNSNAPPED, recipe("shift").weights, recipe("apot").weights], ids=str)
def test_weight_only_networks_compute_with_any_levels(weights: Scheme, tmp_path: Path) -> None:
    prep, model = converted(Recipe(weights=weights, activations=None, edge_bits=None))
    assert torch.equal(model(X), prep(X))
    save(model, tmp_path / "m.ptqx")
    assert torch.equal(load(tmp_path / "m.ptqx")(X), model(X))


def test_dynamic_activations_refuse_levels_without_whole_numbers() -> None:
    dynamic = recipe("int8-dynamic")
    with pytest.raises(PtqxError, match=r"use static activations \(simulated\) or none"):
        prepare(network(), recipe(dynamic, weights=UNSNAPPED), X)
    prep, model = converted(recipe(dynamic, weights=recipe("apot").weights, edge_bits=None))
    assert torch.equal(model(X), prep(X))


def test_a_channel_whose_bias_dwarfs_its_weights_stays_close() -> None:
    for name in INTEGER:
        layer = nn.Conv2d(3, 4, 3)
        with torch.no_grad():
            layer.weight[1].mul_(1e-12)
            layer.bias[1] = 2.0
        model = nn.Sequential(layer, nn.ReLU(), nn.Conv2d(4, 16, 1), nn.ReLU(), nn.Conv2d(16, 2, 1))
        integer = quantize(model, [X], recipe(name, edge_bits=None))
        kept: dict[str, torch.Tensor] = {}
        integer.run(X, kept)
        codes = kept["0"].float()
        scale, zero_point = integer.qparams("0")
        real = ((codes - zero_point) * scale)[:, 1]
        torch.testing.assert_close(real, torch.full_like(real, 2.0), rtol=0.02, atol=0.0)


@pytest.mark.parametrize("name", [*INTEGER, *SIMULATED, "int8", "int4", "w2a4"])
def test_packed_size_is_as_computed(name: str) -> None:
    chosen = recipe(SIMULATED.get(name, name), edge_bits=None)
    _, model = converted(chosen)
    tensors = model.tensors()
    for node in model.graph:
        if "weight" not in node.tensors:
            continue
        rows, *rest = node.attrs["weight_shape"]
        packed = rows * math.ceil(math.prod(rest) * chosen.weights.storage_bits / 8)
        weight = tensors[node.tensors["weight"]]
        assert weight.numel() * weight.element_size() == packed
        if "weight_levels" in node.tensors:
            assert tensors[node.tensors["weight_levels"]].shape[1] == 2**chosen.weights.bits


def test_kmeans_of_a_small_layer_says_what_to_do() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.Conv2d(3, 1, 1), nn.ReLU(), nn.Conv2d(1, 2, 1))
    with pytest.raises(PtqxError, match="2: weight: k-means of 4 bits needs at least 16 values, got 3"):
        prepare(model, "kmeans", X)
    uniform = {"levels": "uniform", "bits": 8}
    assert convert(calibrate(prepare(model, recipe("kmeans", overrides={"2": {"weights": uniform}}), X), [X]))


def test_mixed_levels_in_one_network() -> None:
    weights = {"granularity": "channel"}
    overrides = {
        "conv1": {"weights": weights | {"levels": "apot", "bits": 5}},
        "conv2": {"weights": weights | {"levels": "ternary", "bits": 2}},
        "shortcut": {"weights": weights | {"levels": "binary", "bits": 1}},
    }
    prep, model = converted(recipe("int8", overrides=overrides))
    assert torch.equal(compile(model, X)(X), prep(X))


def test_least_squares_range_of_powers_of_two_converts() -> None:
    apot = recipe("apot")
    prep, model = converted(recipe(apot, weights=replace(apot.weights, observer="mse")))
    assert torch.equal(model(X), prep(X))
