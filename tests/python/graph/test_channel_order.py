"""Layers on [N, H, W, C] become convolutions of [N, C, H, W]; what can't be turned stays as it was."""

from __future__ import annotations

from typing import Any

import networks
import ptqx
import pytest
import torch
import torch.nn.functional as F
from ptqx.graph import IntegerModel, SimulatedModel, calibrate, compile, convert, prepare
from torch import Tensor, nn


def prepared(model: nn.Module, x: Tensor, how: Any = "int8", qat: bool = False) -> SimulatedModel:
    torch.manual_seed(0)
    return calibrate(prepare(model.eval(), how, x, qat=qat), [x])


def ops(model: SimulatedModel | IntegerModel) -> list[str]:
    return [node.op for node in model.graph]


def test_layers_between_permutes_are_convolutions_and_no_permute_is_left() -> None:
    x = torch.randn(2, 6, 5, 4)
    prep = prepared(nn.Sequential(networks.ConvNeXtBlock(6), nn.Conv2d(6, 3, 1)), x)
    assert ops(prep) == ["quantize", "conv2d", "layer_norm", "conv2d", "lookup", "conv2d", "conv2d"]
    nodes = prep.graph.nodes
    assert nodes["0.expand"].shape == (12, 5, 4)
    assert nodes["0.reduce"].params["layer_scale"] == "0.layer_scale"
    assert nodes["0.norm"].quantizer == "0.norm" and nodes["0.depthwise"].quantizer is None


def test_integer_model_and_engine_are_equal_and_near_the_float_model() -> None:
    x = torch.randn(4, 6, 8, 8)
    model = nn.Sequential(nn.Conv2d(6, 40, 1), networks.ConvNeXtBlock(40), nn.Conv2d(40, 3, 1))
    for how in ("int8", "int4", "int8-dynamic", "int8-weight-only", "int8-multiplier", "fixed8"):
        prep = prepared(model, x, how)
        integer = convert(prep)
        assert torch.equal(prep.eval()(x), integer(x))
        with torch.no_grad():
            error = (integer(x) - model(x)).square().mean() / model(x).square().mean()
        assert error < {"int4": 0.02, "fixed8": 0.005}.get(how, 1e-3), how
    engine = compile(convert(prepared(model, x)), x)
    assert torch.equal(engine(x), convert(prepared(model, x))(x))


class Gated(nn.Module):
    """Splits channels of [N, H, W, C], and puts some beside others again, as MambaOut (arXiv:2405.07992)."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.reduce = nn.Linear(6, 20), nn.Linear(10, 6)
        self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        gate, kept, seen = torch.split(self.expand(x), [10, 6, 4], dim=-1)
        seen = self.conv(seen.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = x + self.reduce(F.gelu(gate) * torch.cat((kept, seen), dim=-1))
        return x.mean((1, 2))


def test_slices_and_concatenation_of_channels_are_turned() -> None:
    model, x = Gated(), torch.randn(3, 6, 5, 4)
    prep = prepared(model, x)
    assert {"permute", "pad", "float"}.isdisjoint(ops(prep))
    torch.testing.assert_close(prep.float_output(x), model(x), rtol=1e-4, atol=1e-5)
    integer = convert(prep)
    assert torch.equal(compile(integer, x)(x), integer(x))


class Ends(nn.Module):
    """Ends in [N, H, W, C], and shows an inner value there to what can't be turned."""

    def __init__(self, inner: bool) -> None:
        super().__init__()
        self.inner = inner
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.first(x.permute(0, 2, 3, 1)))
        if self.inner:
            y = y + torch.cumsum(y, 1)
        return self.last(y)


@pytest.mark.parametrize("inner", [False, True])
def test_values_that_others_read_as_they_were_get_a_permute(inner: bool) -> None:
    x = torch.randn(2, 6, 5, 4)
    model = Ends(inner).eval()
    prep = prepared(model, x)
    assert prep.graph.shape(prep.graph.output) == (5, 4, 4)
    assert ops(prep).count("permute") == 1
    integer = convert(prep)
    with torch.no_grad():
        assert integer(x).shape == model(x).shape
        assert torch.allclose(integer(x), model(x), atol=0.2)
    if not inner:
        assert torch.equal(compile(integer, x)(x), integer(x))


@pytest.mark.parametrize("dims", [(0, 2, 1, 3), (0, 2, 3, 1), (0, 3, 2, 1)])
def test_other_permutes_move_what_they_moved(dims: tuple[int, ...]) -> None:
    class Permuted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            channels = torch.empty(2, 4, 5, 8).permute(dims).shape[1]
            self.first, self.last = nn.Linear(6, 8), nn.Conv2d(channels, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.relu(self.first(x.permute(0, 2, 3, 1)))
            return self.last(y.permute(dims))

    x = torch.randn(2, 6, 4, 5)
    model = Permuted().eval()
    integer = convert(prepared(model, x))
    with torch.no_grad():
        assert torch.allclose(integer(x), model(x), atol=0.2)
    assert torch.equal(compile(integer, x)(x), integer(x))


class Scaled(nn.Module):
    def __init__(
        self, shape: tuple[int, ...], linear: bool = False, relu: bool = False, numbers: int = 5
    ) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 5) if linear else nn.Conv2d(6, 5, 1)
        self.relu = relu
        self.scale = nn.Parameter(torch.linspace(0.5, 2.0, numbers).reshape(shape))

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return (F.relu(y) if self.relu else y) * self.scale


@pytest.mark.parametrize(
    ("model", "shape", "expected"),
    [
        (Scaled((5, 1, 1)), (2, 6, 3, 3), ["quantize", "conv2d"]),
        (Scaled((1, 5, 1, 1)), (2, 6, 3, 3), ["quantize", "conv2d"]),
        (Scaled((5,), linear=True), (2, 6), ["quantize", "linear"]),
        (Scaled((1,), numbers=1), (2, 6, 3, 3), ["quantize", "conv2d"]),
        (Scaled((), numbers=1, relu=True), (2, 6, 3, 3), ["quantize", "conv2d", "conv2d"]),
        (Scaled((5, 1, 1), relu=True), (2, 6, 3, 3), ["quantize", "conv2d", "conv2d"]),
        (
            Scaled((5,), linear=True, relu=True),
            (2, 6),
            ["quantize", "linear", "reshape", "conv2d", "flatten"],
        ),
        (Scaled((5,)), (2, 6, 5, 5), ["quantize", "conv2d", "constant", "mul"]),
    ],
    ids=[
        "channels",
        "one-image",
        "features",
        "number",
        "number-activation",
        "activation-between",
        "features-activation",
        "columns",
    ],
)
def test_a_number_a_channel_is_part_of_the_layer_before_it_or_a_layer_of_its_own(
    model: nn.Module, shape: tuple[int, ...], expected: list[str]
) -> None:
    x = torch.randn(shape)
    prep = prepared(model, x)
    assert ops(prep) == expected
    with torch.no_grad():
        assert torch.allclose(convert(prep)(x), model(x), atol=0.1)


def test_a_number_a_channel_after_a_batch_norm_is_a_layer_of_its_own() -> None:
    class Normalized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
            self.scale = nn.Parameter(torch.tensor([0.5, 1.0, -2.0, 3.0]).reshape(4, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * self.bn(self.conv(x))

    x = torch.randn(2, 3, 4, 4)
    model = networks.with_statistics(Normalized()).eval()
    prep = prepared(model, x)
    assert ops(prep) == ["quantize", "conv2d", "conv2d"]
    with torch.no_grad():
        assert torch.allclose(convert(prep)(x), model(x), atol=0.2)


@pytest.mark.parametrize(
    ("norm", "shape", "reason"),
    [
        (nn.LayerNorm([6, 4, 4]), (2, 6, 4, 4), "only over channels"),
        (nn.LayerNorm(4), (2, 6, 4, 4), "outside of permutes"),
        (nn.LayerNorm(4, eps=0.0), (2, 6, 4, 4), "eps 0.0; it must be positive"),
        (nn.LayerNorm(4, bias=False), (2, 6, 4, 4), "outside of permutes"),
    ],
    ids=["whole", "columns", "eps", "no-bias"],
)
def test_other_layer_normalizations_stay_float_with_a_reason(
    norm: nn.Module, shape: tuple[int, ...], reason: str
) -> None:
    x = torch.randn(shape)
    model = nn.Sequential(nn.Conv2d(6, 6, 1), norm, nn.Conv2d(6, 2, 1))
    prep = prepared(model, x)
    (node,) = [node for node in prep.graph if node.op == "float"]
    assert reason in node.reason
    with torch.no_grad():
        assert torch.allclose(convert(prep)(x), model(x), atol=0.2)


@pytest.mark.parametrize("affine", [True, False])
def test_features_are_normalized_without_permutes(affine: bool) -> None:
    x = torch.randn(8, 20)
    model = nn.Sequential(nn.Linear(20, 33), nn.LayerNorm(33, elementwise_affine=affine), nn.Linear(33, 3))
    prep = prepared(model, x)
    assert ops(prep) == ["quantize", "linear", "layer_norm", "linear"]
    integer = convert(prep)
    assert torch.equal(compile(integer, x)(x), integer(x))
    covered = ptqx.coverage(integer)
    assert covered.mac_share == 1.0
    assert [row.kind for row in covered.float_rows] == ["layer_norm"]
    assert "real numbers" in covered.float_rows[0].reason
    assert [step for step in covered.rows if step.kind == "linear"]


def test_training_moves_every_parameter_of_a_block_and_converts() -> None:
    x = torch.randn(8, 6, 5, 5)
    model = nn.Sequential(nn.Conv2d(6, 6, 1), networks.ConvNeXtBlock(6), nn.Conv2d(6, 2, 1))
    prep = prepared(model, x, "w4a4", qat=True).train()
    prep(x).square().mean().backward()
    missing = [name for name, p in prep.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing
    with torch.no_grad():
        for parameter in prep.parameters():
            if parameter.grad is not None:
                parameter.sub_(0.01 * parameter.grad)
    prep.eval()
    assert torch.equal(convert(prep)(x), prep(x))


@pytest.mark.parametrize(
    "name", ["gptq", "adaround:steps=20", "bias_correction", "equalization", "range_search"]
)
def test_methods_run_on_turned_layers(name: str) -> None:
    x = torch.randn(32, 6, 5, 5)
    model = nn.Sequential(nn.Conv2d(6, 6, 1), networks.ConvNeXtBlock(6), nn.Conv2d(6, 2, 1)).eval()
    integer = ptqx.quantize(model, [x], f"w4a8+{name}")
    with torch.no_grad():
        error = (integer(x) - model(x)).square().mean() / model(x).square().mean()
    assert error < 0.05


def test_sixteen_bit_codes_follow_a_layer_normalization() -> None:
    x = torch.randn(4, 20)
    model = nn.Sequential(nn.Linear(20, 33), nn.LayerNorm(33), nn.Linear(33, 3)).eval()
    prep = prepared(model, x, "fixed16").eval()
    integer = convert(prep)
    assert torch.equal(integer(x), prep(x))
    with torch.no_grad():
        assert torch.allclose(integer(x), model(x), atol=1e-3)


def test_exported_and_compiled_blocks_are_equal(tmp_path: Any) -> None:
    x = torch.randn(4, 6, 5, 5)
    model = nn.Sequential(nn.Conv2d(6, 6, 1), networks.ConvNeXtBlock(6), nn.Conv2d(6, 2, 1)).eval()
    integer = convert(prepared(model, x))
    expected = integer(x)
    assert torch.equal(torch.compile(integer, fullgraph=True)(x), expected)
    assert torch.equal(torch.export.export(integer, (x,)).module()(x), expected)
    path = tmp_path / "block.ptqx"
    ptqx.save(integer, path)
    assert torch.equal(ptqx.load(path)(x), expected)
