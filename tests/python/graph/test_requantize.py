"""Requantization without floats: the written rounding, against Python's own whole numbers and fractions."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import networks
import pytest
import torch
from ptqx import models
from ptqx.errors import PtqxError
from ptqx.graph import calibrate, compile, convert, coverage, explain, load, prepare, save
from ptqx.graph.document import graph_from_json
from ptqx.graph.formulas import Codes, QParams
from ptqx.graph.requantize import requantizer, shift_half_to_even
from ptqx.quant import Scheme, recipe
from torch import nn

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
RECIPES = ["int8-multiplier", "fixed8", "fixed16"]


def qparams(scale: float, zero_point: int = 0, low: int = 0, high: int = 255) -> QParams:
    return QParams(torch.tensor(scale), torch.tensor(float(zero_point)), low, high)


@pytest.mark.parametrize("places", [0, 1, 2, 7, 31, 62])
def test_shift_rounds_half_to_even(places: int) -> None:
    generator = torch.Generator().manual_seed(places)
    values = [0, 1, -1, 2**61, -(2**61), *range(-20, 20)]
    values += [k * 2 ** max(places - 1, 0) for k in range(-9, 10) if abs(k) * 2 ** max(places - 1, 0) < 2**62]
    values += torch.randint(-(2**62), 2**62, (200,), generator=generator).tolist()
    got = shift_half_to_even(torch.tensor(values), torch.tensor(places)).tolist()
    assert got == [round(Fraction(value, 2**places)) for value in values]


@pytest.mark.parametrize("terms", [1, 2])
def test_multiplier_equals_whole_numbers_and_is_next_to_the_real_factor(terms: int) -> None:
    generator = torch.Generator().manual_seed(terms)
    factors = [torch.rand(5, generator=generator).double() * 10.0 ** -(2 + k) for k in range(terms)]
    out = qparams(1.0, 3)
    fixed = requantizer(factors, out, "multiplier", ("none", []), "conv")
    limit = 2**20 if terms == 1 else 255
    sums = [torch.randint(-limit, limit, (50, 5), generator=generator) for _ in range(terms)]
    got = fixed.codes(sums)
    for row, channel in ((r, c) for r in range(50) for c in range(5)):
        exact = sum(
            Fraction(int(s[row, channel]) * int(m[channel]), 2 ** int(fixed.shift[channel]))
            for s, m in zip(sums, fixed.multipliers, strict=True)
        )
        assert int(got[row, channel]) == min(max(round(exact) + 3, 0), 255)
        real = sum(int(s[row, channel]) * float(f[channel]) for s, f in zip(sums, factors, strict=True))
        assert math.isclose(float(exact), real, rel_tol=2e-9, abs_tol=1e-6)
    assert bool((fixed.multipliers < 2**31).all()) and bool((fixed.multipliers.amax(0) >= 2**28).all())


def test_shift_takes_powers_of_two_as_they_are() -> None:
    out = qparams(1.0, 0, -128, 127)
    fixed = requantizer([torch.tensor([2.0**-5, 1.0, 4.0]).double()], out, "shift", ("none", []), "conv")
    assert fixed.multipliers.tolist() == [[1, 1, 4]] and fixed.shift.tolist() == [5, 0, 0]
    assert fixed.codes([torch.tensor([[48, 9, -7]])]).tolist() == [[2, 9, -28]]
    with pytest.raises(PtqxError, match="conv: requantize='shift' needs scales that are powers of two"):
        requantizer([torch.tensor([0.3]).double()], out, "shift", ("none", []), "conv")


def test_activations_are_clamps_of_codes() -> None:
    out = qparams(0.5, 10)
    clip = ("clip", [torch.tensor(0.0), torch.tensor(12.0)])  # ReLU6 in steps of 0.5
    fixed = requantizer([torch.tensor([1.0]).double()], out, "multiplier", clip, "conv")
    assert (fixed.low, fixed.high) == (10, 22)
    relu = ("clip", [torch.tensor(0.0), torch.tensor(math.inf)])
    fixed = requantizer([torch.tensor([1.0]).double()], out, "multiplier", relu, "conv")
    assert (fixed.low, fixed.high) == (10, 255)
    with pytest.raises(PtqxError, match="conv: without floats an activation is a clamp, not hardswish"):
        requantizer([torch.tensor([1.0]).double()], out, "multiplier", ("hardswish", []), "conv")


class Pooled(networks.Residual):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(nn.functional.avg_pool2d(nn.functional.max_pool2d(x, 2, 1), 2, 1))


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("network", [networks.Residual, Pooled])
def test_simulated_and_integer_are_equal_and_close_to_float(
    name: str, network: type[nn.Module], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = networks.with_statistics(network(8)).eval()
    prep = calibrate(prepare(model, name, X), [X]).eval()
    integer = convert(prep)
    other = 2 * torch.randn(3, 3, 8, 8)
    assert torch.equal(integer(other), prep(other))
    torch.testing.assert_close(integer(X), model(X), rtol=0.0, atol=0.15)
    assert {row.execution for row in coverage(integer).rows} == {"integer"}
    assert any(node.op in ("conv2d_fixed_point", "conv2d_wide") for node in integer.graph)
    assert any(node.op == "add_fixed_point" for node in integer.graph)
    save(integer, tmp_path / "m.ptqx")
    assert torch.equal(load(tmp_path / "m.ptqx")(other), integer(other))
    explained = explain(integer).rows
    if name == "fixed16":
        with pytest.raises(PtqxError, match=r"the engine runs codes of up to 8 bits; .*conv1"):
            compile(integer, X)
        assert {row.runs for row in explained} == {"integer"}
        assert all("codes of more than 8 bits" in row.reason for row in explained)
    else:
        engine = compile(integer, X)
        assert torch.equal(engine(other), integer(other))
        assert torch.equal(engine.to_integer_model()(other), integer(other))
        assert {row.runs for row in explained} <= {"engine", "view"}
    with torch.no_grad():
        torch.compiler.reset()  # there is a limit on how many networks one function is compiled for
        compiled = torch.compile(integer, fullgraph=True, backend="eager")
        assert torch.equal(compiled(other), integer(other))


class Separable(nn.Sequential):
    """Depthwise layers, clipped activations and averages."""

    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv2d(3, 24, 3, 2, 1), nn.ReLU6(), nn.Conv2d(24, 24, 3, 1, 1, groups=24), nn.ReLU6()),
            *(nn.Conv2d(24, 40, 1), nn.AvgPool2d(2), nn.Conv2d(40, 40, 5, 2, 2, groups=40)),
            *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(160, 32), nn.ReLU(), nn.Linear(32, 10)),
        )


@pytest.mark.parametrize(
    "network", [Separable, *(partial(models.build, name, 10) for name in ("resnet20", "vgg11_bn"))]
)
def test_models_without_floats_run_in_the_engine(network: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 32, 32)
    model = network().eval()
    for fewer_bits in ({}, {"weights": Scheme(bits=3, granularity="channel")}):
        chosen = recipe("int8-multiplier", **fewer_bits)
        integer = convert(calibrate(prepare(model, chosen, x), [x]))
        assert any(node.op == "conv2d_fixed_point" for node in integer.graph)
        other = 3 * torch.randn(3, 3, 32, 32)
        assert torch.equal(compile(integer, x)(other), integer(other))


def test_multiplier_gives_nearly_the_codes_of_floats() -> None:
    torch.manual_seed(0)
    model = networks.with_statistics(networks.Residual(8)).eval()
    codes = []
    for requantize in ("float", "multiplier"):
        chosen = recipe("int8", residual="requantized", requantize=requantize)
        kept: dict[str, torch.Tensor | Codes] = {}
        calibrate(prepare(model, chosen, X), [X]).eval().exact(X, kept)
        codes.append(kept["conv2"].values)
    difference = (codes[0] - codes[1]).abs()
    assert float(difference.max()) <= 1.0 and float((difference > 0).float().mean()) < 1e-3


def test_sixteen_bit_fixed_point_computes_exactly_what_whole_numbers_do() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 5)).eval()
    prep = calibrate(prepare(model, "fixed16", X), [X]).eval()
    kept: dict[str, Codes] = {}
    output = prep.exact(X, kept)
    torch.testing.assert_close(output, model(X), rtol=0.0, atol=2e-3)
    x, y = kept["input.quantize"], kept["0"]
    assert int(x.values.abs().max()) > 255 and x.qparams.qmin == -(2**15)
    n_x, n_y = (-int(math.log2(q.qparams.scale)) for q in (x, y))
    quantizer = prep.weight_quantizer(prep.graph.nodes["0"])
    n_w = (-quantizer.scale.log2()).int().tolist()
    weight = quantizer.quantize(model[0].weight.detach())
    assert weight.dtype == torch.int16
    bias = [
        round(Fraction(float(b)) * 2 ** (n_x + n)) for b, n in zip(model[0].bias.detach(), n_w, strict=True)
    ]
    padded = nn.functional.pad(x.values, (1, 1, 1, 1)).long()
    for channel, row, column in ((0, 0, 0), (1, 3, 4), (2, 7, 7), (3, 5, 0)):
        window = padded[1, :, row : row + 3, column : column + 3]
        acc = int((window * weight[channel].long()).sum()) + bias[channel]
        expected = min(max(round(Fraction(acc, 2 ** (n_x + n_w[channel] - n_y))), 0), 2**15 - 1)
        assert int(y.values[1, channel, row, column]) == expected
    integer = convert(prep)
    assert integer.tensor(integer.graph.nodes["0"], "bias").tolist() == bias
    values: dict[str, torch.Tensor] = {}
    assert torch.equal(integer.run(X, values), output)
    assert values["0"].dtype == torch.int16 and torch.equal(values["0"].float(), y.values)


class WideNetwork(nn.Module):
    """Strides, groups, pools, clipped activations, an addition, and features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1, groups=2)
        self.conv3 = nn.Conv2d(6, 9, (3, 2), stride=2, padding=(2, 0), dilation=(2, 1))
        self.fc1 = nn.Linear(9 * 2, 7)
        self.fc2 = nn.Linear(7, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.relu(self.conv1(x))
        x = nn.functional.max_pool2d(x + self.conv2(x), 2, ceil_mode=True)
        x = nn.functional.avg_pool2d(
            nn.functional.relu6(self.conv3(nn.functional.pad(x, (1, 1, 0, 0)))), (1, 2)
        )
        return self.fc2(nn.functional.relu(self.fc1(x.flatten(1))))


@pytest.mark.parametrize(("weight_bits", "activation_bits"), [(16, 16), (16, 8), (8, 16), (12, 10), (9, 16)])
def test_wide_codes_of_every_kind_are_equal_and_stored(
    weight_bits: int, activation_bits: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = WideNetwork().eval()
    weights = Scheme(bits=weight_bits, levels="fixed", granularity="channel")
    chosen = recipe("fixed16", weights=weights, activations=Scheme(bits=activation_bits, levels="fixed"))
    prep = calibrate(prepare(model, chosen, X), [X]).eval()
    integer = convert(prep)
    x = 3 * torch.randn(5, 3, 8, 8)
    expected = prep(x)
    assert torch.equal(integer(x), expected)
    save(integer, tmp_path / "m.ptqx")
    loaded = load(tmp_path / "m.ptqx")
    assert torch.equal(loaded(x), expected)
    assert all(torch.equal(loaded.tensors()[k], v) for k, v in integer.tensors().items())
    kinds = {node.name: node.op for node in integer.graph}
    assert all(kinds[name].endswith("_wide") for name in ("conv1", "conv2", "conv3", "fc1", "fc2"))
    assert all(row.execution == "integer" for row in coverage(integer).rows)
    with pytest.raises(PtqxError, match=r"these have more: .*conv1"):
        compile(integer, X)


def test_codes_outside_their_type_are_refused() -> None:
    integer = convert(calibrate(prepare(WideNetwork().eval(), "fixed16", X), [X]))
    text = integer.graph.to_json()
    assert '"int16"' in text
    with pytest.raises(PtqxError, match="expected -32768 <= qmin < qmax <= 32767"):
        graph_from_json(text.replace("-32768", "-32769", 1))
    with pytest.raises(PtqxError, match="must be 'uint8', 'int16' or 'float32', got 'int32'"):
        graph_from_json(text.replace('"int16"', '"int32"', 1))


@pytest.mark.parametrize("name", RECIPES)
def test_networks_train_without_floats_between_layers(name: str) -> None:
    model = networks.with_statistics(networks.Residual(8))
    prep = calibrate(prepare(model, name, X, qat=True), [X]).train()
    optimizer = torch.optim.SGD(prep.parameters(), 1e-3)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = prep(X).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    integer = convert(prep)
    assert torch.equal(integer(X), prep.eval()(X))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"requantize": "shift", "residual": "requantized"},
            "needs levels='fixed' of weights and",
        ),
        ({"requantize": "multiplier"}, "needs static activations, bias='int32' and residual='requantized'"),
        ({"requantize": "shfit"}, "did you mean shift"),
        ({"weights": Scheme(bits=16, levels="fixed")}, "codes of more than 8 bits need requantize='shift'"),
    ],
    ids=str,
)
def test_impossible_recipes_say_what_is_possible(changes: dict[str, object], message: str) -> None:
    with pytest.raises(PtqxError, match=message):
        recipe("int8", **changes)


def test_layers_that_need_floats_are_named() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Hardswish(), nn.Conv2d(4, 2, 1))
    with pytest.raises(PtqxError, match="0: without floats an activation is a clamp, not hardswish"):
        convert(calibrate(prepare(model, "int8-multiplier", X), [X]))
    grouped = Scheme(bits=4, granularity="group", group_size=4)
    chosen = recipe("int8-multiplier", overrides={"2": {"weights": grouped}})
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1))
    with pytest.raises(PtqxError, match="2: weights per group or off the grid need requantize='float'"):
        prepare(model, chosen, X)
    table = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid(), nn.Conv2d(4, 2, 1))
    with pytest.raises(PtqxError, match=r"lookup of 16-bit codes needs floats: use .*'float', or 8 bits"):
        prepare(table, "fixed16", X)
    without_floats = {"requantize": "multiplier", "residual": "requantized", "edge_bits": None}
    with pytest.raises(PtqxError, match="binarize of 1-bit codes needs floats: use requantize='float'"):
        prepare(model, recipe("w1a1", **without_floats), X)
