"""What is exported gives the same integers in ONNX Runtime, at every step; and what can't be says so."""

from __future__ import annotations

from pathlib import Path

import networks
import numpy as np
import ptqx
import pytest
import torch
from ptqx.errors import PtqxError
from ptqx.graph import IntegerModel
from ptqx.graph.operators import OPERATORS
from ptqx.quant import Recipe, Scheme, recipe
from torch import Tensor, nn

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from ptqx.onnx.writers import WRITERS  # noqa: E402

RECIPES = {
    "int8": recipe("int8"),
    "w4a8": recipe("int4"),
    "w2a4": recipe("w2a4"),
    "requantized": recipe("int8", residual="requantized"),
    "per tensor": recipe("int8", weights=Scheme(bits=8)),
    "per group": recipe("int4", weights=Scheme(bits=4, granularity="group", group_size=4)),
    "weight zero points": recipe(
        "int8", weights=Scheme(bits=8, signed=False, symmetric=False, granularity="channel")
    ),
    "one weight zero point": recipe("int8", weights=Scheme(bits=8, signed=False, symmetric=False)),
    "float bias": recipe("int8", bias="float32"),
    "no wider edges": recipe("w4a4", edge_bits=None),
    "apot on a grid": recipe("apot"),
    "ternary": recipe("ternary"),
}
IN_FLOAT = {
    "dynamic": recipe("int8-dynamic"),
    "weight only": recipe("int4-weight-only"),
    "bf16 at the end": recipe("int8", overrides={"fc": {"dtype": "bf16"}}),
}
NOT_IN_ANY_INTEGER_GRAPH = {"dropout", "binarize"}
WIDER_THAN_ONNX = {"conv2d_wide", "linear_wide"}


def random_integer_model(seed: int, how: Recipe) -> tuple[IntegerModel, Tensor]:
    model = networks.RandomNetwork(seed)
    batches = networks.random_batches((3, model.in_channels, 9, 10), seed=seed)
    return ptqx.quantize(model.eval(), batches, how), batches[0]


def exported(model: IntegerModel, x: Tensor, folder: Path, **options: object) -> Path:
    path = folder / "model.onnx"
    ptqx.onnx.export(model, path, x, **options)
    return path


def small_cnn(how: str | Recipe = "int8") -> tuple[IntegerModel, Tensor]:
    x = torch.randn(6, 1, 8, 8)
    return ptqx.quantize(ptqx.models.cnn(in_channels=1, num_classes=10, width=8).eval(), [x], how), x


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("seed", [0, 6])
def test_style_integer_is_equal_bit_by_bit(seed: int, name: str, tmp_path: Path) -> None:
    model, x = random_integer_model(seed + list(RECIPES).index(name), RECIPES[name])
    path = exported(model, x, tmp_path, style="integer")
    for optimizations in ("all", "off"):
        verdict = ptqx.onnx.verify(model, path, x, optimizations)
        assert verdict.equal, str(verdict)
        assert verdict.top1_agreement == 1.0


@pytest.mark.parametrize("name", RECIPES)
def test_style_qdq_is_off_by_one_code_at_the_first_step_that_differs_if_any(
    name: str, tmp_path: Path
) -> None:
    model, x = random_integer_model(list(RECIPES).index(name), RECIPES[name])
    verdict = ptqx.onnx.verify(model, exported(model, x, tmp_path), x)
    first = verdict.first_difference
    if first is not None and first.gives_codes:
        assert first.largest_difference == 1.0
        assert first.different / first.values < 0.01
        assert verdict.reason in str(verdict) and first.name in str(verdict)


def test_style_qdq_of_a_chain_of_layers_is_equal_in_integer_kernels(tmp_path: Path) -> None:
    for how in ("int8", "int4", "w4a4"):
        model, x = small_cnn(how)
        verdict = ptqx.onnx.verify(model, exported(model, x, tmp_path, int4=False), x)
        assert verdict.codes_equal, str(verdict)


@pytest.mark.parametrize("style", ["qdq", "integer"])
@pytest.mark.parametrize("name", IN_FLOAT)
def test_layers_of_real_values_differ_in_their_last_bits_at_most(
    name: str, style: str, tmp_path: Path
) -> None:
    for seed in (1, 5):
        model, x = random_integer_model(seed, IN_FLOAT[name])
        verdict = ptqx.onnx.verify(model, exported(model, x, tmp_path, style=style), x)
        first = verdict.first_difference
        if first is not None:
            assert not first.gives_codes and first.largest_difference < 1e-5, str(verdict)
            assert "real values" in verdict.reason


def test_dynamic_layers_without_functions_of_other_libraries_are_equal(tmp_path: Path) -> None:
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, stride=2),
        nn.LeakyReLU(),
        nn.Conv2d(4, 6, 3),
        nn.Flatten(),
        nn.Linear(24, 3),
    )
    x = torch.randn(5, 2, 7, 8) * torch.tensor([0.0, 1.0, 100.0, 1e-3, -5.0]).reshape(-1, 1, 1, 1)
    model = ptqx.quantize(network.eval(), [x], "int8-dynamic")
    verdict = ptqx.onnx.verify(model, exported(model, x, tmp_path), x)
    assert verdict.equal, str(verdict)


@pytest.mark.parametrize("name", ["int8-multiplier", "fixed8"])
def test_requantization_without_floats_is_equal_bit_by_bit(name: str, tmp_path: Path) -> None:
    x = torch.randn(4, 3, 9, 8)
    model = ptqx.quantize(networks.with_statistics(networks.Residual()).eval(), [x], name)
    assert any(node.op == "add_fixed_point" for node in model.graph)
    verdict = ptqx.onnx.verify(model, exported(model, x, tmp_path, style="integer"), x)
    assert verdict.codes_equal, str(verdict)


@pytest.mark.parametrize("style", ["qdq", "integer"])
def test_layer_normalization_between_permutes(style: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 6, 9, 8)
    network = nn.Sequential(nn.Conv2d(6, 6, 1), networks.ConvNeXtBlock(6), nn.Conv2d(6, 5, 1))
    model = ptqx.quantize(network.eval(), [x], "int8")
    assert any(node.op == "layer_norm" for node in model.graph)
    verdict = ptqx.onnx.verify(model, exported(model, x, tmp_path, style=style), x)
    assert verdict.codes_equal or style == "qdq", str(verdict)
    assert all(step.largest_difference <= 1 for step in verdict.steps), str(verdict)


def test_levels_that_are_no_whole_numbers_are_real_weights(tmp_path: Path) -> None:
    unsnapped = Scheme(bits=4, levels="kmeans", granularity="channel", levels_args={"snapped": False})
    model, x = small_cnn(recipe("int8", weights=unsnapped))
    assert any(node.op == "conv2d_simulated" for node in model.graph)
    for style in ("qdq", "integer"):
        verdict = ptqx.onnx.verify(model, exported(model, x, tmp_path, style=style), x)
        assert all(step.largest_difference <= 1 for step in verdict.steps), str(verdict)


def test_binary_layers_are_equal_bit_by_bit(tmp_path: Path) -> None:
    model, x = small_cnn("w1a1")
    assert any(node.op == "binary_conv2d" for node in model.graph)
    for style in ("qdq", "integer"):
        verdict = ptqx.onnx.verify(model, exported(model, x, tmp_path, style=style), x)
        assert verdict.codes_equal or style == "qdq", str(verdict)
        assert all(step.largest_difference <= 1 for step in verdict.steps), str(verdict)


def test_sixteen_bits_are_refused(tmp_path: Path) -> None:
    model, x = small_cnn("fixed16")
    with pytest.raises(PtqxError, match="codes of 8 bits; these layers' are wider"):
        exported(model, x, tmp_path)


def test_every_operation_of_the_integer_graph_has_a_form_in_both_styles() -> None:
    for style in ("qdq", "integer"):
        assert {op for op, written in WRITERS if written == style} == (
            set(OPERATORS) - NOT_IN_ANY_INTEGER_GRAPH - WIDER_THAN_ONNX - {"float"}
        )


class PoolsAndMoves(nn.Module):
    """Windows that do not divide the image, and every way to move codes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8 * 9, 5)
        self.pool = nn.AvgPool2d(3, 2, 1, ceil_mode=True)
        self.uncounted = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        self.divided = nn.AvgPool2d(2, 1, divisor_override=3)
        self.largest = nn.MaxPool2d(3, 2, 1, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.pad(torch.relu(self.first(x)), (1, 0, 2, 1))
        x = nn.functional.interpolate(self.pool(x), scale_factor=2.0, mode="nearest")
        x = self.uncounted(self.divided(nn.functional.pad(x, (1, -2, -1, 2))))
        x = nn.functional.pixel_shuffle(nn.functional.pixel_unshuffle(x[:, :, 1:11, :8], 2), 2)
        x = self.largest(torch.nn.functional.channel_shuffle(x, 4))
        x = nn.functional.adaptive_avg_pool2d(torch.tanh(x), (3, 3))
        return self.last(x.permute(0, 2, 3, 1).reshape(-1, 72))


@pytest.mark.parametrize("style", ["qdq", "integer"])
def test_windows_and_moves(style: str, tmp_path: Path) -> None:
    x = torch.randn(4, 3, 11, 9)
    model = ptqx.quantize(PoolsAndMoves().eval(), [x], "int8")
    verdict = ptqx.onnx.verify(model, exported(model, x, tmp_path, style=style), x)
    assert verdict.equal or style == "qdq", str(verdict)
    assert all(step.largest_difference <= 2 for step in verdict.steps if step.gives_codes), str(verdict)


class Upsampled(nn.Module):
    def __init__(self, size: tuple[int, int], align_corners: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 1)
        self.how = {"size": size, "mode": "bilinear", "align_corners": align_corners}

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.interpolate(torch.relu(self.first(x)), **self.how)
        return nn.functional.interpolate(self.last(x), **self.how)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(22, 18), (16, 5), (1, 9)], ids=str)
def test_bilinear_upsampling(size: tuple[int, int], align_corners: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 11, 9)
    model = ptqx.quantize(Upsampled(size, align_corners).eval(), [x], "int8")
    for optimizations in ("all", "off"):
        integer = ptqx.onnx.verify(model, exported(model, x, tmp_path, style="integer"), x, optimizations)
        assert integer.equal, str(integer)
    qdq = ptqx.onnx.verify(model, exported(model, x, tmp_path), x)
    assert all(step.largest_difference <= 1 for step in qdq.steps if step.gives_codes), str(qdq)


def test_any_batch_size_and_valid_metadata(tmp_path: Path) -> None:
    import onnxruntime

    model, x = small_cnn()
    path = exported(model, x[:1], tmp_path, style="integer")
    session = onnxruntime.InferenceSession(path)
    for count in (1, 3, 6):
        (got,) = session.run(None, {model.graph.input: x[:count].numpy()})
        assert np.array_equal(got, model(x[:count]).numpy())
    proto = onnx.load(path)
    assert proto.producer_name == "ptqx" and proto.opset_import[0].version == 21
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


def test_weights_of_4_bits_are_stored_as_int4_unless_int8_is_asked_for(tmp_path: Path) -> None:
    model, x = small_cnn("int4")
    for int4, expected in ((True, onnx.TensorProto.INT4), (False, onnx.TensorProto.INT8)):
        proto = onnx.load(exported(model, x, tmp_path, int4=int4))
        types = {t.name: t.data_type for t in proto.graph.initializer}
        assert types["features.3.weight"] == expected


def test_an_engine_exports_as_its_model_does(tmp_path: Path) -> None:
    model, x = small_cnn()
    first = exported(model, x, tmp_path).read_bytes()
    assert exported(ptqx.compile(model, x), x, tmp_path).read_bytes() == first


def test_a_part_that_stayed_python_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    x = torch.randn(2, 3, 6, 6)
    model = ptqx.quantize(networks.PartlyUntraceable().eval(), [x], "int8")
    with pytest.raises(PtqxError, match=r"middle stayed a Python module .* replace it"):
        exported(model, x, tmp_path)
    assert not list(tmp_path.iterdir())


def test_wrong_arguments(tmp_path: Path) -> None:
    model, x = small_cnn()
    with pytest.raises(PtqxError, match="unknown style 'qqd'; did you mean qdq"):
        ptqx.onnx.export(model, tmp_path / "m.onnx", x, style="qqd")
    with pytest.raises(PtqxError, match="qmodel: expected an integer model"):
        ptqx.onnx.export(nn.Identity(), tmp_path / "m.onnx", x)
    with pytest.raises(PtqxError, match="input: expected float32 of shape"):
        ptqx.onnx.export(model, tmp_path / "m.onnx", x[:, 0])
    assert not list(tmp_path.iterdir())
