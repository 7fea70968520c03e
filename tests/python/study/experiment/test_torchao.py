"""torchao's row: linear layers alone, 4 bits, stored as torchao holds them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ptqx import models
from ptqx.files import read_tensors, write_tensors
from ptqx.study.experiment.torchao import quantized_by_torchao, stored_tensors

pytest.importorskip("torchao")


def test_linear_weights_have_sixteen_levels_and_convolutions_stay(tmp_path: Path) -> None:
    model = models.lenet5().eval()
    quantized = quantized_by_torchao(model)
    assert torch.equal(quantized.features[0].weight, model.features[0].weight)
    tensors = stored_tensors(quantized)
    codes = tensors["classifier.2.weight.qdata"]
    assert codes.dtype == torch.int8
    assert -8 <= int(codes.min()) <= int(codes.max()) <= 7
    x = torch.randn(4, 1, 28, 28)
    with torch.no_grad():
        assert 0 < (quantized(x) - model(x)).abs().max() < 1
    write_tensors(tmp_path / "a.safetensors", tensors)
    assert read_tensors(tmp_path / "a.safetensors")[0].keys() == tensors.keys()
