"""Transposed convolutions in ONNX: written as ConvTranspose where it has a form, and read back."""

from __future__ import annotations

from pathlib import Path

import ptqx
import pytest
import torch
from torch import Tensor, nn

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

FORMS = {
    "stride of the kernel": nn.ConvTranspose2d(8, 6, 2, stride=2),
    "kernel 4": nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1),
    "output padding": nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1),
    "rows and columns differ": nn.ConvTranspose2d(8, 6, (3, 2), stride=(3, 1), padding=(0, 1)),
    "dilation": nn.ConvTranspose2d(8, 6, 3, stride=2, padding=2, dilation=2),
    "groups": nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1, groups=2),
}


def quantized(form: str, how: str = "int8") -> tuple[ptqx.IntegerModel, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 7, 7)
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), FORMS[form], nn.ReLU(), nn.Conv2d(6, 4, 1), nn.Flatten()]
    return ptqx.quantize(nn.Sequential(*layers).eval(), [x], how), x


def kinds(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("how", ["int8", "int4", "int8-weight-only", "int8-dynamic"])
@pytest.mark.parametrize("form", FORMS)
def test_style_qdq_has_conv_transpose_where_it_can_and_comes_back(
    form: str, how: str, tmp_path: Path
) -> None:
    model, x = quantized(form, how)
    ptqx.onnx.export(model, tmp_path / "qdq.onnx", x)
    in_integers = how != "int8-dynamic"
    assert ("ConvTranspose" in kinds(tmp_path / "qdq.onnx")) == (form != "groups" and in_integers)
    verdict = ptqx.onnx.verify(model, tmp_path / "qdq.onnx", x)
    assert all(step.largest_difference <= 1 for step in verdict.steps), str(verdict)
    if form != "groups" and how in ("int8", "int4"):
        assert torch.equal(ptqx.onnx.load(tmp_path / "qdq.onnx")(x), model(x))


@pytest.mark.parametrize("form", FORMS)
def test_style_integer_is_equal_bit_by_bit(form: str, tmp_path: Path) -> None:
    model, x = quantized(form)
    ptqx.onnx.export(model, tmp_path / "integer.onnx", x, style="integer")
    verdict = ptqx.onnx.verify(model, tmp_path / "integer.onnx", x)
    assert verdict.equal, str(verdict)
