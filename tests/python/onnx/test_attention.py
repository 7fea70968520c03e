"""Products of two results of the network, and softmax, in ONNX: written in both styles, and read back; those
of others, in whatever layout."""

from __future__ import annotations

from pathlib import Path

import networks
import numpy as np
import ptqx
import pytest
import torch
import torch.nn.functional as F
from ptqx.errors import PtqxError
from ptqx.quant import recipe
from torch import Tensor, nn

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import helper  # noqa: E402
from qdq_files import (  # noqa: E402
    ENTRY,
    EXIT,
    SCALES,
    Nodes,
    quantized_by_onnx_runtime,
    runtime_outputs,
    small_file,
)


class Heads(nn.Module):
    """Of YOLO11: heads of [channels, pixels], the values' own convolution added."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.qkv = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 32, 1)
        self.own, self.last = nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Conv2d(16, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.qkv(torch.relu(self.stem(x)))
        n, _, h, w = x.shape
        q, k, v = x.view(n, 2, 16, h * w).split([4, 4, 8], 2)
        weights = ((q.transpose(-2, -1) @ k) * 4**-0.5).softmax(-1)
        y = (v @ weights.transpose(-2, -1)).view(n, 16, h, w)
        return self.last(y + self.own(v.reshape(n, 16, h, w))).mean((2, 3))


class Tokens(nn.Module):
    """Wang et al., arXiv:1711.07971: between all pixels, as [pixels, channels]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(6, 4, 1)
        self.query, self.key, self.value = (nn.Conv2d(8, 6, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        query, key, value = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        weights = torch.softmax(torch.bmm(query.transpose(1, 2), key) / 3.0, 2)
        y = torch.bmm(weights, value.transpose(1, 2)).transpose(1, 2)
        return self.last(y.reshape(-1, 6, *x.shape[2:])).mean((2, 3))


class Pooled(nn.Module):
    """Cao et al., arXiv:1904.11492: an average of all pixels by weights of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mask, self.last = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 1, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        weights = F.softmax(self.mask(x).flatten(2), -1).unsqueeze(3)
        context = (x.flatten(2).unsqueeze(1) @ weights).view(-1, 8, 1, 1)
        return self.last(x * context).mean((2, 3))


class Fused(nn.Module):
    """PyTorch's own function."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 4, 1)
        self.query, self.key, self.value = (nn.Conv2d(8, 8, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        q, k, v = (
            layer(x).view(len(x), 2, 4, -1).transpose(2, 3) for layer in (self.query, self.key, self.value)
        )
        y = F.scaled_dot_product_attention(q, k, v).transpose(2, 3)
        return self.last(y.reshape(x.shape) + x).mean((2, 3))


NETWORKS: dict[str, type[nn.Module]] = {"heads": Heads, "tokens": Tokens, "pooled": Pooled, "fused": Fused}
RECIPES = {
    "int8": recipe("int8"),
    "w4a4": recipe("w4a4"),
    "requantized": recipe("int8", residual="requantized"),
}


def quantized(name: str, how: str) -> tuple[ptqx.IntegerModel, list[Tensor]]:
    torch.manual_seed(0)
    batches = networks.random_batches((4, 3, 17, 14))
    model = ptqx.quantize(NETWORKS[name]().eval(), batches, RECIPES[how])
    assert {"matmul", "softmax"} <= {node.op for node in model.graph}
    assert not any(node.op == "float" for node in model.graph)
    return model, batches


@pytest.mark.parametrize("how", RECIPES)
@pytest.mark.parametrize("name", NETWORKS)
def test_style_integer_is_equal_bit_by_bit(name: str, how: str, tmp_path: Path) -> None:
    model, batches = quantized(name, how)
    ptqx.onnx.export(model, tmp_path / "m.onnx", batches[0], style="integer")
    kinds = [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node]
    assert kinds.count("MatMulInteger") == sum(node.op == "matmul" for node in model.graph)
    assert "Softmax" not in kinds
    for optimizations in ("all", "off"):
        verdict = ptqx.onnx.verify(model, tmp_path / "m.onnx", batches[1], optimizations)
        assert verdict.equal, str(verdict)


@pytest.mark.parametrize("how", RECIPES)
@pytest.mark.parametrize("name", NETWORKS)
def test_style_qdq_is_near_and_comes_back_bit_by_bit(name: str, how: str, tmp_path: Path) -> None:
    model, batches = quantized(name, how)
    ptqx.onnx.export(model, tmp_path / "m.onnx", batches[0])
    verdict = ptqx.onnx.verify(model, tmp_path / "m.onnx", batches[1])
    first = verdict.first_difference
    assert first is None or first.largest_difference <= (1.0 if first.gives_codes else 1e-5), str(verdict)
    assert all(step.largest_difference <= 1 for step in verdict.steps), str(verdict)
    loaded = ptqx.onnx.load(tmp_path / "m.onnx")
    assert [(n.name, n.op, n.inputs) for n in loaded.graph] == [(n.name, n.op, n.inputs) for n in model.graph]
    assert torch.equal(loaded(batches[1]), model(batches[1]))
    assert torch.equal(ptqx.compile(loaded, batches[1])(batches[1]), model(batches[1]))


@pytest.mark.parametrize("log", [False, True])
def test_softmax_over_channels_of_an_image(log: bool, tmp_path: Path) -> None:
    end: nn.Module = nn.LogSoftmax(1) if log else nn.Softmax(1)
    x = torch.randn(3, 3, 9, 8)
    model = ptqx.quantize(nn.Sequential(nn.Conv2d(3, 5, 3), end).eval(), [x], "int8")
    for style in ("qdq", "integer"):
        ptqx.onnx.export(model, tmp_path / f"{style}.onnx", x, style=style)
        verdict = ptqx.onnx.verify(model, tmp_path / f"{style}.onnx", x)
        assert verdict.equal or style == "qdq", str(verdict)
        assert all(step.largest_difference < 1e-5 for step in verdict.steps), str(verdict)
    assert torch.equal(ptqx.onnx.load(tmp_path / "qdq.onnx")(x), model(x))


@pytest.mark.parametrize("activations", ["QUInt8", "QInt8"])
def test_a_model_of_onnx_runtimes_quantizer(activations: str, tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantType

    torch.manual_seed(0)
    batches = networks.random_batches((8, 3, 16, 16))
    path = quantized_by_onnx_runtime(Heads(), batches, tmp_path, activation_type=QuantType[activations])
    model = ptqx.onnx.load(path)
    ops = [node.op for node in model.graph]
    assert ops.count("matmul") == 2 and ops.count("softmax") == 1
    assert ops.count("permute") == 4  # of three operands and one result; the weights' cancel each other
    x = torch.randn(16, 3, 16, 16)
    verdict = ptqx.onnx.verify(model, path, x, "off")  # QLinearSoftmax, with "all", is off by one at will
    assert all(step.largest_difference <= 1 for step in verdict.steps), str(verdict)
    difference = (model(x) - runtime_outputs(path, x)).abs().max()
    assert difference <= 0.05 * model(x).abs().max()
    assert torch.equal(ptqx.compile(model, x)(x), model(x))


SHARES = {**SCALES, "t": np.float32(1 / 256), "u": np.uint8(0)}
SHAPES = [(7,), (5, 6), (3, 4, 5)]


def codes(t: Tensor, constants: dict[str, np.generic]) -> Tensor:
    return torch.clamp(torch.round(t / float(constants["t"])) + float(constants["u"]), 0, 255)


def entered(x: Tensor) -> Tensor:
    return 0.02 * (torch.clamp(torch.round(x / 0.02) + 128, 0, 255) - 128).double()


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize(
    ("shape", "axis"), [(s, axis) for s in SHAPES for axis in range(1, len(s) + 1)], ids=str
)
def test_softmax_over_any_dimension(shape: tuple[int, ...], axis: int, kind: str, tmp_path: Path) -> None:
    constants = SHARES if kind == "Softmax" else {**SCALES, "u": np.uint8(255)}
    nodes = [*ENTRY, helper.make_node(kind, ["d"], ["y"], axis=axis), *EXIT]
    path = small_file(tmp_path / "m.onnx", nodes, constants, ["N", *shape], "out")
    model = ptqx.onnx.load(path)
    x = torch.randn(6, *shape)
    values: dict[str, Tensor] = {}
    model.run(x, values)
    function = torch.softmax if kind == "Softmax" else torch.log_softmax
    expected = codes(function(entered(x), axis), constants)
    differ = (values["yq"].double() - expected).abs()
    assert differ.max() <= 1 and differ.sum() <= 1  # a tie of float32, if any
    assert torch.equal(ptqx.compile(model, x)(x), model(x))


def product(perms: tuple[list[int] | None, list[int] | None, list[int] | None], divided: bool) -> Nodes:
    """ "y" of "d" times itself, each operand and the result transposed, or not."""
    nodes, names = [*ENTRY], ["d", "d"]
    for i, perm in enumerate(perms[:2]):
        if perm is not None:
            nodes.append(helper.make_node("Transpose", ["d"], [f"d{i}"], perm=perm))
            names[i] = f"d{i}"
    last = "p" if divided or perms[2] else "y"
    nodes.append(helper.make_node("MatMul", names, [last]))
    if divided:
        nodes.append(helper.make_node("Div", [last, "four"], ["y" if perms[2] is None else "v"]))
        last = "v"
    if perms[2] is not None:
        nodes.append(helper.make_node("Transpose", [last], ["y"], perm=perms[2]))
    return [*nodes, *EXIT]


TURNED, TO_HEADS, TO_COLUMNS = [0, 2, 1], [0, 2, 1, 3], [0, 1, 3, 2]


@pytest.mark.parametrize("divided", [False, True])
@pytest.mark.parametrize(
    ("shape", "perms"),
    [
        ((6, 6), (None, None, None)),
        ((5, 6), (None, TURNED, None)),
        ((5, 6), (TURNED, None, TURNED)),
        ((3, 5, 5), (None, None, None)),
        ((3, 4, 5), (None, TO_COLUMNS, None)),
        ((5, 3, 4), (TO_HEADS, [0, 2, 3, 1], TO_HEADS)),
        ((3, 4, 5), (TO_COLUMNS, None, [0, 3, 1, 2])),
    ],
    ids=str,
)
def test_products_in_any_layout(
    shape: tuple[int, ...],
    perms: tuple[list[int] | None, list[int] | None, list[int] | None],
    divided: bool,
    tmp_path: Path,
) -> None:
    constants = {**SCALES, "four": np.float32(4.0)}
    path = small_file(tmp_path / "m.onnx", product(perms, divided), constants, ["N", *shape], "out")
    model = ptqx.onnx.load(path)
    (node,) = (node for node in model.graph if node.op == "matmul")
    assert node.output.dtype == "uint8" and node.attrs["factor"] == (0.25 if divided else 1.0)
    x = torch.randn(6, *shape)
    a, b = (entered(x) if perm is None else entered(x).permute(perm) for perm in perms[:2])
    real = a @ b / (4.0 if divided else 1.0)
    real = real if perms[2] is None else real.permute(perms[2])
    values: dict[str, Tensor] = {}
    model.run(x, values)
    differ = (values["yq"].double() - codes(real, SCALES)).abs()
    assert differ.max() <= 1 and (differ > 0).double().mean() < 0.01  # ties, in float32
    assert ptqx.onnx.verify(model, path, x, "off").steps[-1].largest_difference <= 0.051
    assert torch.equal(ptqx.compile(model, x)(x), model(x))


def test_a_factor_before_the_product_and_parts_that_are_read_as_real_values(tmp_path: Path) -> None:
    nodes = [
        *ENTRY,
        helper.make_node("Mul", ["d", "half"], ["h"]),
        helper.make_node("Transpose", ["h"], ["ht"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["d", "ht"], ["p"]),
        helper.make_node("Mul", ["p", "minus"], ["m"]),
        helper.make_node("Softmax", ["m"], ["y"], axis=2),
    ]
    constants = {**SCALES, "half": np.float32(0.5), "minus": np.float32(-2.0)}
    model = ptqx.onnx.load(small_file(tmp_path / "m.onnx", nodes, constants, ["N", 2, 4, 5], "y"))
    (node,) = (node for node in model.graph if node.op == "matmul")
    assert node.attrs["factor"] == 0.5 and node.output.dtype == "float32"
    x = torch.randn(3, 2, 4, 5)
    d = entered(x)
    expected = torch.softmax(-(d @ d.mT), 2).float()
    torch.testing.assert_close(model(x), expected, rtol=0.0, atol=1e-6)


MATMUL = helper.make_node("MatMul", ["d", "e"], ["y"])
REFUSED: dict[str, tuple[Nodes, list[int], int, str]] = {
    "not quantized": (
        [helper.make_node("Exp", ["d"], ["e"]), MATMUL],
        [3, 5, 5],
        21,
        r"y \(MatMul\): .*only if both of them are quantized",
    ),
    "no rows in one": (
        [helper.make_node("Squeeze", ["d", "one"], ["e"]), MATMUL],
        [1, 5, 5],
        21,
        r"y \(MatMul\): of \[1, 5, 5\] and \[5, 5\] a sample",
    ),
    "too deep": (
        [helper.make_node("Transpose", ["d"], ["e"], perm=[0, 2, 1]), MATMUL],
        [2, 33_026],
        21,
        r"y \(MatMul\): .* k at most 33,025",
    ),
    "over the batch": (
        [helper.make_node("Softmax", ["d"], ["y"], axis=0)],
        [4, 5],
        21,
        r"y \(Softmax\): over axis 0 of \[4, 5\] a sample",
    ),
    "over several dimensions": (
        [helper.make_node("Softmax", ["d"], ["y"])],
        [4, 5],
        12,
        r"y \(Softmax\): over several dimensions, as in opset 12",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_can_not_be_read_is_named(what: str, tmp_path: Path) -> None:
    nodes, shape, opset, message = REFUSED[what]
    constants = {**SCALES, "one": np.asarray([1])}
    path = small_file(tmp_path / "m.onnx", [*ENTRY, *nodes, *EXIT], constants, ["N", *shape], "out", opset)
    with pytest.raises(PtqxError, match=message):
        ptqx.onnx.load(path)


def test_earlier_opsets_over_the_last_dimension(tmp_path: Path) -> None:
    nodes = [*ENTRY, helper.make_node("Softmax", ["d"], ["y"], axis=3), *EXIT]
    x = torch.randn(3, 2, 4, 5)
    models = [
        ptqx.onnx.load(small_file(tmp_path / "m.onnx", nodes, SHARES, ["N", 2, 4, 5], "out", opset))
        for opset in (11, 21)
    ]
    assert torch.equal(models[0](x), models[1](x))
