"""QDQ models, of ptqx and of others, as integer models: equal where the arithmetic is, refused clearly."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networks
import numpy as np
import ptqx
import pytest
import torch
import torch.nn.functional as F
from ptqx.errors import PtqxError
from ptqx.quant import Scheme, recipe
from torch import Tensor, nn

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import helper, numpy_helper  # noqa: E402
from qdq_files import (  # noqa: E402
    ENTRY,
    EXIT,
    SCALES,
    Nodes,
    quantized_by_onnx_runtime,
    runtime_outputs,
    small_file,
)

RECIPES = {
    "int8": recipe("int8"),
    "w4a8": recipe("int4"),
    "w2a4": recipe("w2a4"),
    "requantized": recipe("int8", residual="requantized"),
    "per group": recipe("int4", weights=Scheme(bits=4, granularity="group", group_size=4)),
    "weight zero points": recipe(
        "int8", weights=Scheme(bits=8, signed=False, symmetric=False, granularity="channel")
    ),
    "float bias": recipe("int8", bias="float32"),
    "weight only": recipe("int8-weight-only"),
}


class Network(nn.Module):
    """Strided and depthwise convolutions, an addition, a concatenation, pools, squeeze-and-excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU6())
        self.project = nn.Conv2d(8, 8, 1)
        self.down = nn.Sequential(nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.Hardswish())
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 12, 1), nn.Sigmoid())
        self.hidden, self.fc = nn.Linear(24, 16), nn.Linear(16, 5)
        networks.with_statistics(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.relu(self.project(self.depthwise(x)) + x)
        x = self.down(x)
        x = torch.cat([x * self.squeeze(x), x], 1)
        x = torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)
        return self.fc(F.leaky_relu(self.hidden(x)))


@pytest.mark.parametrize("name", RECIPES)
def test_what_ptqx_exported_comes_back_bit_by_bit(name: str, tmp_path: Path) -> None:
    for seed in (1, 5):
        model = networks.RandomNetwork(seed)
        batches = networks.random_batches((3, model.in_channels, 9, 10), seed=seed)
        qmodel = ptqx.quantize(model.eval(), batches, RECIPES[name])
        path = tmp_path / f"{seed}.onnx"
        ptqx.onnx.export(qmodel, path, batches[0])
        loaded = ptqx.onnx.load(path)
        assert torch.equal(loaded(batches[1]), qmodel(batches[1]))


class Normalized(nn.Module):
    """Layer normalization of real values and of codes, of images and of features."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.norm = networks.ConvNeXtBlock(6), nn.LayerNorm(6)
        self.first, self.last = nn.Linear(6, 20), nn.Linear(20, 4)
        self.features = nn.LayerNorm(20, elementwise_affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.block(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = F.max_pool2d(x, 2)
        return self.last(self.features(self.first(F.adaptive_avg_pool2d(x, 1).flatten(1))))


@pytest.mark.parametrize("name", ["int8", "requantized"])
def test_layer_normalization_comes_back_bit_by_bit(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    batches = networks.random_batches((3, 6, 8, 8))
    qmodel = ptqx.quantize(Normalized().eval(), batches, RECIPES[name])
    assert [node.op for node in qmodel.graph].count("layer_norm") == 3
    ptqx.onnx.export(qmodel, tmp_path / "qdq.onnx", batches[0])
    loaded = ptqx.onnx.load(tmp_path / "qdq.onnx")
    assert [node.op for node in loaded.graph].count("layer_norm") == 3
    assert torch.equal(loaded(batches[1]), qmodel(batches[1]))
    assert torch.equal(ptqx.compile(loaded, batches[1])(batches[1]), qmodel(batches[1]))


@pytest.mark.parametrize("log", [False, True])
def test_softmax_comes_back_and_is_near_onnx_runtimes(log: bool, tmp_path: Path) -> None:
    end: nn.Module = nn.LogSoftmax(1) if log else nn.Softmax(1)
    x = torch.randn(16, 12)
    qmodel = ptqx.quantize(nn.Sequential(nn.Linear(12, 7), end).eval(), [x], "int8")
    for style in ("qdq", "integer"):
        path = tmp_path / f"{style}.onnx"
        ptqx.onnx.export(qmodel, path, x, style=style)
        verdict = ptqx.onnx.verify(qmodel, path, x)
        assert verdict.equal or style == "qdq", str(verdict)
        assert all(step.largest_difference < 1e-5 for step in verdict.steps)
    assert torch.equal(ptqx.onnx.load(tmp_path / "qdq.onnx")(x), qmodel(x))


class Positions(nn.Module):
    """A parameter of every pixel, and one of every row."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 5, 1)
        self.pixels, self.rows = (nn.Parameter(torch.randn(1, 8, 9, w)) for w in (7, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.last((torch.relu(self.first(x)) + self.pixels) * self.rows)


def test_parameters_of_pixels_come_back_bit_by_bit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 9, 7)
    qmodel = ptqx.quantize(Positions().eval(), [x], "int8")
    assert [node.op for node in qmodel.graph].count("constant") == 2
    for style in ("qdq", "integer"):
        ptqx.onnx.export(qmodel, tmp_path / f"{style}.onnx", x[:1], style=style)
        verdict = ptqx.onnx.verify(qmodel, tmp_path / f"{style}.onnx", x)
        assert verdict.equal or style == "qdq", str(verdict)
        assert all(step.largest_difference <= 1 for step in verdict.steps), str(verdict)
    loaded = ptqx.onnx.load(tmp_path / "qdq.onnx")
    assert torch.equal(loaded(x), qmodel(x))
    assert torch.equal(ptqx.compile(loaded, x)(x), qmodel(x))


@pytest.mark.parametrize("unpadded", [False, True])
def test_a_u_net_comes_back_bit_by_bit(unpadded: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 44, 44)
    qmodel = ptqx.quantize(networks.UNet(unpadded=unpadded).eval(), [x], "int8")
    ptqx.onnx.export(qmodel, tmp_path / "qdq.onnx", x)
    loaded = ptqx.onnx.load(tmp_path / "qdq.onnx")
    assert {"upsample_bilinear2d", "cat"} | ({"pad"} if unpadded else set()) <= {n.op for n in loaded.graph}
    assert torch.equal(loaded(x), qmodel(x))
    assert torch.equal(ptqx.compile(loaded, x)(x), qmodel(x))


def test_padding_with_the_image_comes_back_bit_by_bit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 9, 8)
    first = nn.Conv2d(3, 4, 3, padding=(2, 1), padding_mode="reflect")
    last = nn.Conv2d(4, 2, 3, padding=1, padding_mode="circular")
    model = nn.Sequential(first, nn.ReLU(), nn.ReplicationPad2d((0, 3, 1, 2)), last)
    qmodel = ptqx.quantize(model.eval(), [x], "int8")
    for style in ("qdq", "integer"):
        ptqx.onnx.export(qmodel, tmp_path / f"{style}.onnx", x, style=style)
    loaded = ptqx.onnx.load(tmp_path / "qdq.onnx")
    modes = [node.attrs["mode"] for node in loaded.graph if node.op == "pad"]
    assert modes == ["reflect", "replicate", "circular"]
    assert torch.equal(loaded(x), qmodel(x))


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(F.channel_shuffle(torch.relu(self.first(x)), 2), (-1, 2, 1, -2))
        x = F.pixel_unshuffle(F.pixel_shuffle(x, 2)[:, :, 1:, 1:-1][:, :, :15, :15], 3)
        return self.last(F.pixel_shuffle(torch.cat([x[:, :12]], 1), 2))


def test_blocks_and_crops_come_back_bit_by_bit_and_run_in_the_engine(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 3, 9, 8)
    qmodel = ptqx.quantize(Blocks().eval(), [x], "int8")
    ptqx.onnx.export(qmodel, tmp_path / "qdq.onnx", x)
    loaded = ptqx.onnx.load(tmp_path / "qdq.onnx")
    ops = [node.op for node in loaded.graph]
    assert ops.count("channel_shuffle") == 1  # those to SpaceToDepth's order and back are gone
    assert not {"reshape", "permute"} & set(ops)
    assert torch.equal(loaded(x), qmodel(x))
    assert torch.equal(ptqx.compile(loaded, x)(x), qmodel(x))


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("activations", ["QUInt8", "QInt8"])
def test_a_model_of_onnx_runtimes_quantizer(activations: str, per_channel: bool, tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantType

    batches = networks.random_batches((8, 3, 12, 12))
    types = {"activation_type": QuantType[activations], "weight_type": QuantType.QInt8}
    path = quantized_by_onnx_runtime(Network(), batches, tmp_path, per_channel=per_channel, **types)
    model = ptqx.onnx.load(path)
    assert {"conv2d", "linear", "add", "mul"} <= {node.op for node in model.graph}
    assert not ptqx.coverage(model).float_rows
    x = torch.randn(16, 3, 12, 12)
    verdict = ptqx.onnx.verify(model, path, x)
    first = verdict.first_difference
    if first is not None:  # by one step of ONNX Runtime's own rounding
        assert first.op not in ("conv2d", "linear") and first.largest_difference == 1, str(verdict)
    difference = (model(x) - runtime_outputs(path, x)).abs().max()
    assert difference <= 0.05 * model(x).abs().max()
    assert torch.equal(ptqx.compile(model, x)(x), model(x))


def test_a_model_of_nncf(tmp_path: Path) -> None:
    nncf = pytest.importorskip("nncf")
    torch.manual_seed(0)
    model = Network().eval()
    x = torch.randn(8, 3, 16, 16)
    names = {"input_names": ["input"], "output_names": ["logits"]}
    axes = {"input": {0: "batch"}, "logits": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (x,), tmp_path / "float.onnx", dynamo=False, dynamic_axes=axes, **names)
        images = nncf.Dataset([x.numpy()], lambda batch: {"input": batch})
        quantized = nncf.quantize(onnx.load(tmp_path / "float.onnx"), images, subset_size=1)
    onnx.save(quantized, tmp_path / "int8.onnx")
    integer = ptqx.onnx.load(tmp_path / "int8.onnx")
    assert ptqx.coverage(integer).mac_share == 1.0
    assert not any(node.op.endswith(("_float", "_simulated")) for node in integer.graph)
    theirs = runtime_outputs(tmp_path / "int8.onnx", x)
    torch.testing.assert_close(integer(x), theirs, rtol=0.0, atol=0.05 * float(theirs.abs().max()))


def test_a_chain_of_layers_is_equal_to_onnx_runtimes_bit_by_bit(tmp_path: Path) -> None:
    chain = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, 2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 5)),
    )
    batches = networks.random_batches((8, 3, 12, 12))
    path = quantized_by_onnx_runtime(chain, batches, tmp_path, per_channel=True)
    model = ptqx.onnx.load(path)
    x = torch.randn(64, 3, 12, 12)
    assert ptqx.onnx.verify(model, path, x).equal
    assert torch.equal(model(x), runtime_outputs(path, x))
    ptqx.save(model, tmp_path / "m.ptqx")
    assert torch.equal(ptqx.load(tmp_path / "m.ptqx")(x), model(x))


class Resampled(nn.Module):
    """Both orders of channels, crops and interpolation, as PyTorch's own exporter writes them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pixel_unshuffle(F.pixel_shuffle(torch.relu(self.first(x)), 2), 2)
        x = F.interpolate(x[:, :, 1:-2, 2:], scale_factor=2, mode="bilinear", align_corners=False)
        x = F.interpolate(torch.relu(self.second(x)), (7, 9), mode="bilinear", align_corners=True)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def test_resampling_in_a_model_of_onnx_runtimes_quantizer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    batches = networks.random_batches((8, 3, 12, 12))
    path = quantized_by_onnx_runtime(Resampled(), batches, tmp_path)
    model = ptqx.onnx.load(path)
    ops = [node.op for node in model.graph]
    assert ops.count("upsample_bilinear2d") == 2 and ops.count("pixel_unshuffle") == 1
    x = torch.randn(16, 3, 12, 12)
    theirs = runtime_outputs(path, x)
    torch.testing.assert_close(model(x), theirs, rtol=0.0, atol=0.05 * float(theirs.abs().max()))
    assert torch.equal(ptqx.compile(model, x)(x), model(x))


def test_weights_that_are_quantized_in_the_graph(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(6, 4, 3, 3)).astype(np.float32)
    scale = (np.abs(weight).max((1, 2, 3)) / 127).astype(np.float32)
    constants = {
        **SCALES,
        "w": weight,
        "ws": scale,
        "wz": np.zeros(6, np.int8),
        "b": weight[:, 0, 0, 0].copy(),
    }
    nodes = [
        *ENTRY,
        helper.make_node("QuantizeLinear", ["w", "ws", "wz"], ["wq"], axis=0),
        helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["wd"], axis=0),
        helper.make_node("Conv", ["d", "wd", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("PRelu", ["c", "slope"], ["y"]),
        *EXIT,
    ]
    constants["slope"] = np.linspace(0.1, 0.6, 6, dtype=np.float32).reshape(6, 1, 1)
    path = small_file(tmp_path / "m.onnx", nodes, constants, ["N", 4, 5, 6], "out")
    model = ptqx.onnx.load(path)
    (layer,) = (node for node in model.graph if node.op == "conv2d")
    assert layer.attrs["activation"] == "prelu" and model.tensor(layer, "bias").dtype == torch.float32
    assert np.array_equal(model.tensor(layer, "weight").numpy(), np.rint(weight / scale.reshape(-1, 1, 1, 1)))
    verdict = ptqx.onnx.verify(model, path, torch.randn(9, 4, 5, 6), "off")
    assert all(step.largest_difference <= 1 for step in verdict.steps if step.gives_codes), str(verdict)
    assert sum(step.different for step in verdict.steps) < 10


def test_movements_of_codes_need_no_quantizer_of_their_own(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).integers(-127, 128, (6, 8, 3, 3)).astype(np.int8)
    constants = {**SCALES, "w": weight, "ws": np.full(6, 0.01, np.float32), "wz": np.zeros(6, np.int8)}
    nodes = [
        *ENTRY,
        helper.make_node("MaxPool", ["d"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Concat", ["p", "p"], ["c"], axis=1),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        helper.make_node("Conv", ["c", "wd"], ["y"]),
        *EXIT,
    ]
    path = small_file(tmp_path / "m.onnx", nodes, constants, ["N", 4, 8, 8], "out")
    model = ptqx.onnx.load(path)
    assert [node.op for node in model.graph] == ["quantize", "max_pool2d", "cat", "conv2d", "dequantize"]
    x = torch.randn(9, 4, 8, 8)
    assert ptqx.onnx.verify(model, path, x, "off").steps[-1].different < 10
    assert torch.equal(ptqx.compile(model, x)(x), model(x))


def test_parts_that_nobody_quantized_run_in_float(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    constants = {**SCALES, "w": weight, "two": np.float32(2.0)}
    nodes = [
        *ENTRY,
        helper.make_node("Gemm", ["d", "w"], ["g"], transB=1),
        helper.make_node("Mul", ["g", "two"], ["m"]),
        helper.make_node("Sigmoid", ["m"], ["y"]),
    ]
    model = ptqx.onnx.load(small_file(tmp_path / "m.onnx", nodes, constants, ["N", 4], "y"))
    x = torch.randn(5, 4)
    real = 0.02 * (torch.clamp(torch.round(x / 0.02) + 128, 0, 255) - 128)
    assert torch.allclose(model(x), torch.sigmoid(2 * real @ torch.from_numpy(weight).T), atol=1e-6)
    assert next(node for node in model.graph if node.op == "linear_float").reason


def conv(**attrs: Any) -> Nodes:
    dequantized = helper.make_node("DequantizeLinear", ["w", "s"], ["wd"])
    return [dequantized, helper.make_node("Conv", ["d", "wd"], ["y"], **attrs)]


def resize(scales: list[float], **attrs: Any) -> Nodes:
    tensor = numpy_helper.from_array(np.asarray(scales, np.float32))
    constant = helper.make_node("Constant", [], ["scales"], value=tensor)
    return [constant, helper.make_node("Resize", ["d", "", "scales"], ["y"], **attrs)]


REFUSED: dict[str, tuple[Nodes, str]] = {
    "cubic": (resize([1, 1, 2, 2], mode="cubic"), "only linear, and nearest by whole factors"),
    "antialias": (resize([1, 1, 2, 2], mode="linear", antialias=1), "without antialias"),
    "coordinates": (
        resize([1, 1, 2, 2], mode="linear", coordinate_transformation_mode="asymmetric"),
        "half_pixel or align_corners.*this is asymmetric",
    ),
    "no whole size": (resize([1, 1, 1.7, 1.7], mode="linear"), "give no whole size"),
    "computed bounds": (
        [
            helper.make_node("Constant", [], ["two"], value_ints=[2]),
            helper.make_node("Shape", ["d"], ["rows"], start=2, end=3),
            helper.make_node("Slice", ["d", "two", "rows", "two"], ["y"]),
        ],
        "its bounds are computed; only constants",
    ),
    "step": (
        [
            helper.make_node("Constant", [], ["two"], value_ints=[2]),
            helper.make_node("Constant", [], ["eight"], value_ints=[8]),
            helper.make_node("Slice", ["d", "two", "eight", "two", "two"], ["y"]),
        ],
        "can be sliced, without a step",
    ),
    "operation": (
        [helper.make_node("Einsum", ["d"], ["y"], equation="nchw->nchw")],
        "Einsum.*no such operation",
    ),
    "automatic padding": (conv(auto_pad="SAME_UPPER"), "auto_pad can't be read; write explicit pads"),
    "batch permuted": (
        [helper.make_node("Transpose", ["d"], ["y"], perm=[1, 0, 2, 3])],
        "the batch must stay",
    ),
    "other scale": (
        [helper.make_node("DequantizeLinear", ["q", "t", "u"], ["y"])],
        "is not that of the Quant",
    ),
    "operand": ([helper.make_node("Add", ["d", "image"], ["y"])], "no such operation|constant tensor"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_can_not_be_read_is_named(what: str, tmp_path: Path) -> None:
    nodes, message = REFUSED[what]
    constants = {**SCALES, "w": np.ones((4, 4, 3, 3), np.int8), "image": np.ones((1, 4, 5, 6), np.float32)}
    path = small_file(tmp_path / "m.onnx", [*ENTRY, *nodes, *EXIT], constants, ["N", 4, 5, 6], "out")
    with pytest.raises(PtqxError, match=message) as caught:
        ptqx.onnx.load(path)
    assert str(path) in str(caught.value) and "y" in str(caught.value)


def test_forms_that_are_not_qdq_say_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with pytest.raises(PtqxError, match="no such file"):
        ptqx.onnx.load(path)
    path.write_bytes(b"\xff" * 40)
    with pytest.raises(PtqxError, match="is no ONNX file"):
        ptqx.onnx.load(path)
    plain: Callable[[Nodes], Path] = lambda nodes: small_file(path, nodes, SCALES, ["N", 4], "y")  # noqa: E731
    with pytest.raises(PtqxError, match="not quantized"):
        ptqx.onnx.load(plain([helper.make_node("Relu", ["x"], ["y"])]))
    with pytest.raises(PtqxError, match="dynamically"):
        ptqx.onnx.load(
            plain(
                [
                    helper.make_node("DynamicQuantizeLinear", ["x"], ["a", "b", "c"]),
                    helper.make_node("DequantizeLinear", ["a", "b", "c"], ["y"]),
                ]
            )
        )
    free = small_file(path, [*ENTRY, helper.make_node("Relu", ["d"], ["y"])], SCALES, ["N", 3, "H", "W"], "y")
    with pytest.raises(PtqxError, match="its sizes must be fixed"):
        ptqx.onnx.load(free)
    signed = {**SCALES, "z": np.uint16(128)}
    wide = small_file(path, [*ENTRY, helper.make_node("Relu", ["d"], ["y"])], signed, ["N", 4], "y")
    with pytest.raises(PtqxError, match="quantized to uint16; only uint8 and int8"):
        ptqx.onnx.load(wide)
