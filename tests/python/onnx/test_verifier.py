"""verify: it finds what differs, names it, and refuses what it can't compare."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import ptqx
import pytest
import torch
from ptqx.errors import PtqxError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def model() -> ptqx.IntegerModel:
    x = torch.randn(6, 1, 8, 8)
    return ptqx.quantize(ptqx.models.cnn(in_channels=1, num_classes=10, width=8).eval(), [x], "int8")


def test_a_step_that_differs_is_named_with_its_size(model: ptqx.IntegerModel, tmp_path: Path) -> None:
    x, path = torch.randn(70, 1, 8, 8), tmp_path / "m.onnx"  # more than a batch
    ptqx.onnx.export(model, path, x, style="integer")
    proto = onnx.load(path)
    multiplier = next(t for t in proto.graph.initializer if t.name == "features.3.multiplier")
    values = onnx.numpy_helper.to_array(multiplier).copy()
    values[2] *= 1.25  # one channel
    multiplier.CopyFrom(onnx.numpy_helper.from_array(values, multiplier.name))
    onnx.save(proto, path)
    verdict = ptqx.onnx.verify(model, path, x)
    expected, changed = {}, {}
    model.run(x, expected)
    first = verdict.first_difference
    assert first is not None and first.name == "features.3"
    assert not verdict.equal and not verdict.codes_equal
    assert verdict.samples == 70 and "features.3" in str(verdict)
    codes = expected["features.3"]
    assert 0 < first.different <= codes[:, 2].numel() and first.values == codes.numel()
    assert 1 <= first.largest_difference <= 255
    changed = json.loads(json.dumps(verdict.to_dict()))
    assert changed["equal"] is False and changed["steps"][0]["different"] == 0


def test_the_output_is_that_of_the_file_as_it_is(model: ptqx.IntegerModel, tmp_path: Path) -> None:
    x, path = torch.randn(4, 1, 8, 8), tmp_path / "m.onnx"
    ptqx.onnx.export(model, path, x, style="integer")
    last = ptqx.onnx.verify(model, path, x).steps[-1]
    assert last.name == model.graph.output and not last.gives_codes
    assert last.values == 40 and last.largest_difference == 0.0


def test_refusals(model: ptqx.IntegerModel, tmp_path: Path) -> None:
    x, path = torch.randn(4, 1, 8, 8), tmp_path / "m.onnx"
    with pytest.raises(PtqxError, match="no such file"):
        ptqx.onnx.verify(model, path, x)
    path.write_bytes(b"\xff" * 40)
    with pytest.raises(PtqxError, match="is no ONNX file"):
        ptqx.onnx.verify(model, path, x)
    ptqx.onnx.export(model, path, x)
    with pytest.raises(PtqxError, match="unknown optimizations 'none'"):
        ptqx.onnx.verify(model, path, x, "none")
    other = ptqx.quantize(ptqx.models.lenet5().eval(), [torch.randn(4, 1, 28, 28)], "int8")
    with pytest.raises(PtqxError, match="has no step"):
        ptqx.onnx.verify(other, path, torch.randn(4, 1, 28, 28))
    with pytest.raises(PtqxError, match="example_inputs: expected a tensor"):
        ptqx.onnx.verify(model, path, np.zeros(3))
