"""Networks on sequences [N, C, L]: convolutions and pooling of one dimension."""

from __future__ import annotations

from pathlib import Path

import ptqx
import pytest
import torch
import torch.nn.functional as F
from networks import with_statistics
from ptqx import calibrate, compile, convert, coverage, prepare
from torch import Tensor, nn


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn = nn.Conv1d(channels, channels, 3, padding=1), nn.BatchNorm1d(channels)
        self.conv2 = nn.Conv1d(channels, channels, 3, padding=2, dilation=2, groups=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.conv2(F.relu(self.bn(self.conv1(x)))))


class SequenceNetwork(nn.Module):
    """A network for sounds or measurements: two channels, 40 steps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv1d(2, 8, 7, stride=2, padding=3, padding_mode="reflect"), nn.BatchNorm1d(8), nn.ReLU()
        )
        self.blocks = nn.Sequential(
            nn.MaxPool1d(2), Residual(8), nn.Conv1d(8, 12, 3, padding="same"), nn.SiLU(), Residual(12)
        )
        self.pool, self.head = nn.AvgPool1d(2), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.blocks(self.stem(x)))
        return self.head(torch.cat([x, x * 0.5], 2).mean(-1) if x.shape[2] > 99 else x.mean(-1))


class ChannelAttention(nn.Module):
    """A convolution over channels (Wang et al., arXiv:1910.03151)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.attention = nn.Conv2d(3, 8, 3), nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = x.mean((2, 3)).view(x.shape[0], 1, -1)
        y = self.attention(y).sigmoid().view(x.shape[0], -1, 1, 1)
        return self.last(x * y.expand_as(x))


@pytest.mark.parametrize("recipe", ["int8", "w4a4", "int8-dynamic", "w4a8", "int8-multiplier"])
def test_networks_on_sequences_run_on_integers(recipe: str, tmp_path: Path) -> None:
    model = with_statistics(SequenceNetwork()).eval()
    x = torch.randn(6, 2, 40)
    prep = calibrate(prepare(model, recipe, x), [x])
    assert [node.name for node in prep.graph if node.op == "float"] == []
    torch.testing.assert_close(prep.float_output(x), model(x), rtol=1e-4, atol=1e-5)
    qmodel = convert(prep)
    assert coverage(qmodel).mac_share == 1.0
    assert torch.equal(compile(qmodel, x)(x), qmodel(x))
    ptqx.save(qmodel, tmp_path / "sequence.ptqx")
    assert torch.equal(ptqx.load(tmp_path / "sequence.ptqx")(x), qmodel(x))


def test_reshapes_between_layers_on_sequences_cancel() -> None:
    x = torch.randn(6, 2, 40)
    qmodel = ptqx.quantize(SequenceNetwork().eval(), [x], "int8")
    assert [node.name for node in qmodel.graph if node.op == "reshape"] == ["stem.0.image"]


def test_sequences_are_an_output_of_the_engine() -> None:
    model, x = (
        nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.ReplicationPad1d(2)).eval(),
        torch.randn(3, 2, 9),
    )
    qmodel = ptqx.quantize(model, [x], "int8")
    engine = compile(qmodel, x)
    assert engine(x).shape == model(x).shape == (3, 4, 11)
    assert torch.equal(engine(x), qmodel(x))


def test_attention_by_a_convolution_over_channels_runs_on_integers() -> None:
    model, x = ChannelAttention().eval(), torch.randn(3, 3, 7, 6)
    qmodel = ptqx.quantize(model, [x], "int8")
    assert coverage(qmodel).float_rows == ()
    assert torch.equal(compile(qmodel, x)(x), qmodel(x))


def test_sequences_learn_in_quantization_aware_training() -> None:
    x = torch.randn(6, 2, 40)
    prep = calibrate(prepare(SequenceNetwork().eval(), "w4a4", x, qat=True), [x]).train()
    prep(x).square().mean().backward()
    assert all(p.grad is not None for name, p in prep.named_parameters() if name.endswith("weight"))
    prep.eval()
    assert torch.equal(convert(prep)(x), prep(x))


@pytest.mark.parametrize("style", ["qdq", "integer"])
def test_sequences_are_written_as_onnx(style: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    x = torch.randn(6, 2, 40)
    qmodel = ptqx.quantize(SequenceNetwork().eval(), [x], "int8")
    ptqx.onnx.export(qmodel, tmp_path / "sequence.onnx", x, style=style)
    if style == "qdq":
        assert torch.equal(ptqx.onnx.load(tmp_path / "sequence.onnx")(x), qmodel(x))
