"""Networks on tokens [N, L, C]: transformers behind a convolution (Dosovitskiy et al., arXiv:2010.11929)."""

from __future__ import annotations

from pathlib import Path

import ptqx
import pytest
import torch
import torch.nn.functional as F
from ptqx.graph import calibrate, compile, convert, coverage, prepare
from torch import Tensor, nn

CHANNELS, HEADS = 16, 4


class Block(nn.Module):
    """Attention and two layers; queries, keys and values of all heads by one layer."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.norm1, self.norm2 = nn.LayerNorm(CHANNELS), nn.LayerNorm(CHANNELS)
        self.qkv, self.proj = nn.Linear(CHANNELS, 3 * CHANNELS), nn.Linear(CHANNELS, CHANNELS)
        self.first, self.last = nn.Linear(CHANNELS, 2 * CHANNELS), nn.Linear(2 * CHANNELS, CHANNELS)
        self.scale = nn.Parameter(torch.linspace(0.5, 1.0, CHANNELS))

    def attended(self, x: Tensor) -> Tensor:
        n, length, channels = x.shape
        qkv = self.qkv(x).reshape(n, length, 3, HEADS, channels // HEADS).permute(2, 0, 3, 1, 4)
        if self.how == "one call":
            query, key, value = qkv.unbind(0)
            y = F.scaled_dot_product_attention(query, key, value)
        else:
            query, key, value = qkv[0], qkv[1], qkv[2]
            scores = (query * (channels // HEADS) ** -0.5) @ key.transpose(-2, -1)
            y = scores.softmax(-1) @ value
        return self.proj(y.transpose(1, 2).reshape(n, length, channels))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.scale * self.attended(self.norm1(x))
        return x + self.last(F.gelu(self.first(self.norm2(x))))


class Transformer(nn.Module):
    """With a class token, or the mean of all tokens."""

    def __init__(self, how: str, class_token: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS, 4, 4)
        self.position = nn.Parameter(0.1 * torch.randn(1, 12 + class_token, CHANNELS))
        self.class_token = nn.Parameter(torch.randn(1, 1, CHANNELS)) if class_token else None
        self.blocks = nn.Sequential(Block(how), Block(how))
        self.norm, self.head = nn.LayerNorm(CHANNELS), nn.Linear(CHANNELS, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], 1)
        x = self.norm(self.blocks(x + self.position))
        return self.head(x.mean(1) if self.class_token is None else x[:, 0])


KINDS = [("one call", True), ("one call", False), ("products", True), ("products", False)]
X = torch.randn(4, 3, 16, 12, generator=torch.Generator().manual_seed(0))


def transformer(how: str, class_token: bool) -> nn.Module:
    torch.manual_seed(0)
    return Transformer(how, class_token).eval()


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("recipe", ["int8", "w4a8"])
def test_transformers_run_whole_in_the_engine(kind: tuple[str, bool], recipe: str, tmp_path: Path) -> None:
    model = transformer(*kind)
    prep = calibrate(prepare(model, recipe, X), [X])
    torch.testing.assert_close(prep.float_output(X), model(X), rtol=1e-4, atol=1e-5)
    qmodel = convert(prep)
    covered = coverage(qmodel)
    assert covered.mac_share == 1.0 and {row.kind for row in covered.float_rows} == {"layer_norm", "softmax"}
    assert torch.equal(qmodel(X), prep.eval()(X))
    if recipe == "int8":
        with torch.no_grad():
            assert (qmodel(X) - model(X)).norm() < 0.05 * model(X).norm()
    engine = compile(qmodel, X)
    for batch in (X, X[:1], torch.randn(9, 3, 16, 12)):
        assert torch.equal(engine(batch), qmodel(batch))
    ptqx.save(qmodel, tmp_path / "transformer.ptqx")
    assert torch.equal(ptqx.load(tmp_path / "transformer.ptqx")(X), qmodel(X))


def test_what_computes_on_tokens_reads_and_gives_pixels_and_nothing_is_moved_between() -> None:
    graph = prepare(transformer("one call", True), "int8", X).graph
    ops = [node.op for node in graph]
    assert "add" not in ops[ops.index("layer_norm") :], "residual additions are the end of a layer"
    assert ops.count("conv2d") == 1 + 2 * 4 and ops.count("linear") == 1
    # Per block: heads out of the layer's channels, and back.
    assert ops.count("permute") == 2 * 5 + 1


@pytest.mark.parametrize("style", ["qdq", "integer"])
def test_onnx_runtime_gives_the_same(style: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    qmodel = ptqx.quantize(transformer("products", True), [X], "int8")
    ptqx.onnx.export(qmodel, tmp_path / "transformer.onnx", X, style=style)
    verdict = ptqx.onnx.verify(qmodel, tmp_path / "transformer.onnx", X)
    if style == "integer":
        assert verdict.codes_equal, str(verdict)
    assert all(step.largest_difference <= 1 for step in verdict.steps if step.gives_codes), str(verdict)


def test_parameters_of_tokens_learn_in_quantization_aware_training() -> None:
    prep = calibrate(prepare(transformer("products", True), "w4a4", X, qat=True), [X]).train()
    prep(X).square().mean().backward()
    for name in ("position", "class_token", "blocks.0.scale", "blocks.1.qkv.weight", "norm.weight"):
        assert prep.get_parameter(name).grad.abs().sum() > 0, name
    qmodel = convert(prep.eval())
    assert torch.equal(compile(qmodel, X)(X), qmodel(X))


class ImageHeads(nn.Module):
    """Heads of an image: channels before pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Conv2d(3, 3 * CHANNELS, 1), nn.Conv2d(CHANNELS, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        qkv = self.qkv(x).reshape(n, 3, HEADS, CHANNELS // HEADS, -1).permute(1, 0, 2, 4, 3)
        query, key, value = qkv.unbind(0)
        y = F.scaled_dot_product_attention(query, key, value)
        return self.proj(y.permute(0, 1, 3, 2).reshape(n, -1, h, w)).mean((2, 3))


def test_heads_of_an_image_are_taken_apart() -> None:
    torch.manual_seed(0)
    model = ImageHeads().eval()
    qmodel = ptqx.quantize(model, [X], "int8")
    assert coverage(qmodel).mac_share == 1.0
    assert torch.equal(compile(qmodel, X)(X), qmodel(X))
    with torch.no_grad():
        assert (qmodel(X) - model(X)).norm() < 0.05 * model(X).norm()


@pytest.mark.parametrize("index", [0, -1, (slice(None), 3), (slice(None), slice(None), 2)], ids=str)
def test_one_of_a_dimension(index: object) -> None:
    class Item(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            rest = index if isinstance(index, tuple) else (index,)
            return self.conv(x)[(slice(None), *rest)]

    model = Item().eval()
    qmodel = ptqx.quantize(model, [X], "int8")
    engine = compile(qmodel, X)
    assert engine(X).shape == model(X).shape and torch.equal(engine(X), qmodel(X))
