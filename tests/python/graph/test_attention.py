"""Attention: products of two results of the network, and softmax over any dimension."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import ptqx
import pytest
import torch
import torch.nn.functional as F
from networks import with_statistics
from ptqx.graph import calibrate, capture, compile, convert, coverage, prepare
from torch import Tensor, nn

CHANNELS, HEADS = 16, 2


class Attention(nn.Module):
    """A stem, attention of some kind over its pixels, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, CHANNELS, 3, 2, 1), nn.BatchNorm2d(CHANNELS), nn.ReLU())
        self.query, self.key, self.value = (nn.Conv2d(CHANNELS, CHANNELS, 1) for _ in range(3))
        self.tail, self.head = nn.Conv2d(CHANNELS, CHANNELS, 1), nn.Linear(CHANNELS, 5)

    def attended(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(F.relu(x + self.tail(self.attended(x))).mean((2, 3)))


class NonLocal(Attention):
    """Wang et al., arXiv:1711.07971: all pixels with all, one head."""

    def attended(self, x: Tensor) -> Tensor:
        query, key, value = (part(x).flatten(2) for part in (self.query, self.key, self.value))
        scores = torch.bmm(query.permute(0, 2, 1), key) / math.sqrt(CHANNELS)
        return torch.bmm(F.softmax(scores, 2), value.permute(0, 2, 1)).permute(0, 2, 1).reshape(x.shape)


class Heads(Attention):
    """As detectors write it: heads beside one another in the channels of one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.all = nn.Conv2d(CHANNELS, 2 * CHANNELS, 1)
        self.position = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS)

    def attended(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        query, key, value = self.all(x).view(n, HEADS, c, h * w).split([c // 4, c // 4, c // 2], dim=2)
        weights = ((query.transpose(-2, -1) @ key) * 0.5).softmax(dim=-1)
        y = (value @ weights.transpose(-2, -1)).view(n, c, h, w)
        return y + self.position(value.reshape(n, c, h, w))


class OneCall(Attention):
    """scaled_dot_product_attention."""

    def attended(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        query, key, value = (
            part(x).reshape(n, HEADS, c // HEADS, h * w).transpose(2, 3)
            for part in (self.query, self.key, self.value)
        )
        return F.scaled_dot_product_attention(query, key, value).transpose(2, 3).reshape(n, c, h, w)


class GlobalContext(Attention):
    """Cao et al., arXiv:1904.11492: one mean of all pixels, by learned weights."""

    def attended(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        weights = F.softmax(self.query(x)[:, :1].reshape(n, 1, h * w), dim=-1).unsqueeze(3)
        context = (self.value(x).reshape(n, c, h * w).unsqueeze(1) @ weights).view(n, c, 1, 1)
        return context.expand(n, c, h, w)


NETWORKS = (NonLocal, Heads, OneCall, GlobalContext)
X = torch.randn(4, 3, 13, 12, generator=torch.Generator().manual_seed(0))


def network(kind: type[Attention]) -> nn.Module:
    torch.manual_seed(0)
    return with_statistics(kind()).eval()


def ops(model: Any) -> list[str]:
    return [node.op for node in model.graph]


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("recipe", ["int8", "w4a4", "w4a8"])
def test_every_multiplication_is_integer_and_all_ways_to_run_it_are_equal(
    kind: type[Attention], recipe: str, tmp_path: Path
) -> None:
    model = network(kind)
    prep = calibrate(prepare(model, recipe, X), [X])
    torch.testing.assert_close(prep.float_output(X), model(X), rtol=1e-4, atol=1e-5)
    qmodel = convert(prep)
    covered = coverage(qmodel)
    assert covered.mac_share == 1.0
    assert {row.kind for row in covered.float_rows} <= {"softmax", "permute", "reshape", "slice"}
    assert torch.equal(qmodel(X), prep.eval()(X))
    if recipe == "int8":
        with torch.no_grad():
            assert (qmodel(X) - model(X)).norm() < 0.05 * model(X).norm()
    engine = compile(qmodel, X)
    for batch in (X, X[:1], torch.randn(9, 3, 13, 12)):
        assert torch.equal(engine(batch), qmodel(batch))
    ptqx.save(qmodel, tmp_path / "attention.ptqx")
    assert torch.equal(ptqx.load(tmp_path / "attention.ptqx")(X), qmodel(X))


@pytest.mark.parametrize("kind", NETWORKS)
def test_step_by_step_it_compiles_and_exports(kind: type[Attention]) -> None:
    qmodel = ptqx.quantize(network(kind), [X], "int8")
    torch.compiler.reset()
    assert torch.equal(torch.compile(qmodel, fullgraph=True)(X), qmodel(X))
    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(qmodel, (X,), dynamic_shapes=({0: batch},))
    assert torch.equal(exported.module()(torch.cat([X, X])), qmodel(torch.cat([X, X])))


def test_products_count_their_multiplications() -> None:
    rows = {row.name: row for row in coverage(ptqx.quantize(network(NonLocal), [X], "int8")).rows}
    pixels = 7 * 6
    assert [rows[name].macs for name in ("bmm", "bmm_1")] == [pixels * pixels * CHANNELS] * 2


@pytest.mark.parametrize("kind", NETWORKS)
def test_scales_of_products_are_folded_and_moves_of_values_cancel(kind: type[Attention]) -> None:
    graph = prepare(network(kind), "int8", X).graph
    factors = [node.attrs["factor"] for node in graph if node.op == "matmul"]
    assert (
        factors
        == {
            NonLocal: [pytest.approx(0.25), 1.0],
            Heads: [0.5, 1.0],
            OneCall: [pytest.approx(1 / math.sqrt(8)), 1.0],
            GlobalContext: [1.0],
        }[kind]
    )
    assert "activation" not in ops(prepare(network(kind), "int8", X))
    between = list(graph.nodes.values())
    scores = next((i for i, node in enumerate(between) if node.op == "matmul"), 0)
    if kind is not GlobalContext:  # scores go to softmax and on as they lie
        assert [node.op for node in between[scores : scores + 2]] == ["matmul", "softmax"]


@pytest.mark.parametrize("recipe", ["int8-dynamic", "int8-weight-only", "int8-multiplier", "fixed16"])
def test_recipes_that_round_without_codes_or_floats_keep_products_real_and_say_so(recipe: str) -> None:
    qmodel = ptqx.quantize(network(NonLocal), [X], recipe)
    reasons = {row.reason for row in coverage(qmodel).float_rows if row.name.startswith("bmm")}
    assert any("which this recipe leaves real values" in reason for reason in reasons), reasons
    if recipe in ("int8-dynamic", "int8-multiplier"):
        assert torch.equal(compile(qmodel, X, partial=True)(X), qmodel(X))


@pytest.mark.parametrize("kind", NETWORKS)
def test_it_learns_in_quantization_aware_training(kind: type[Attention]) -> None:
    prep = calibrate(prepare(network(kind), "w4a4", X, qat=True), [X]).train()
    prep(X).square().mean().backward()
    assert prep.get_parameter("value.weight" if kind is not Heads else "all.weight").grad.abs().sum() > 0
    qmodel = convert(prep.eval())
    assert torch.equal(compile(qmodel, X)(X), qmodel(X))


class Function(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, 4, 1), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.conv(x))


@pytest.mark.parametrize("dim", [1, 2, 3, -1])
@pytest.mark.parametrize("function", [F.softmax, F.log_softmax])
def test_softmax_over_any_dimension_of_an_image(dim: int, function: Any) -> None:
    model, x = Function(lambda x: function(x, dim)).eval(), torch.randn(3, 3, 5, 6)
    qmodel = ptqx.quantize(model, [x], "int8")
    engine = compile(qmodel, x)
    assert torch.equal(engine(x), qmodel(x))
    torch.testing.assert_close(engine(x), function(qmodel_logits(qmodel, x), dim))


def qmodel_logits(qmodel: ptqx.IntegerModel, x: Tensor) -> Tensor:
    values: dict[str, Tensor] = {qmodel.graph.input: x}
    qmodel.run(x, values)
    return values["conv"]


@pytest.mark.parametrize("dim", [1, 2])
def test_softmax_over_any_dimension_of_a_sequence(dim: int) -> None:
    model, x = Function(lambda x: F.softmax(x.flatten(2), dim)).eval(), torch.randn(3, 3, 5, 6)
    qmodel = ptqx.quantize(model, [x], "int8")
    assert torch.equal(compile(qmodel, x)(x), qmodel(x))
    assert torch.allclose(qmodel(x).sum(dim), torch.ones(()))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: x @ x.new_ones(6, 2), "an operand is a parameter, not a result of the network"),
        (lambda x: x @ x[:, :1].transpose(2, 3), "operands of shapes [4, 5, 6] and [1, 6, 5] a sample"),
        (lambda x: F.softmax(x, 0), "over dim=0 of [4, 5, 6] a sample"),
        (lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), "a mask, or groups of queries"),
        (
            lambda x: F.scaled_dot_product_attention(x, x[:, :1], x[:, :1]),
            "operands of shapes [4, 5, 6], [1, 5, 6], [1, 5, 6] a sample",
        ),
    ],
    ids=["parameter", "broadcast", "samples", "causal", "one-head"],
)
def test_others_stay_float_with_a_reason(function: Any, reason: str) -> None:
    nodes = [n for n in capture(Function(function), torch.randn(2, 3, 5, 6)) if n.op == "float"]
    assert any(reason in node.reason for node in nodes), [node.reason for node in nodes]


def test_products_whose_sums_int32_might_not_hold_stay_real() -> None:
    x = torch.randn(1, 3, 184, 184)
    model = Function(lambda x: (x[:, :2].flatten(2) @ x[:, 2:].flatten(2).transpose(1, 2)).flatten(1))
    qmodel = ptqx.quantize(model.eval(), [x], "int8")
    (row,) = [row for row in coverage(qmodel).rows if row.macs and row.execution == "float"]
    assert "whose sums of 33856 terms could exceed int32" in row.reason
