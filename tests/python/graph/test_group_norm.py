"""Group and instance normalization between layers of codes."""

from __future__ import annotations

from pathlib import Path

import ptqx
import pytest
import torch
import torch.nn.functional as F
from ptqx.graph import calibrate, capture, compile, convert, prepare
from torch import Tensor, nn


class Norms(nn.Module):
    """A block of a network for medical images, and one with groups."""

    def __init__(self, affine: bool = True) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 8, 3, padding=1)
        self.instance = nn.InstanceNorm2d(12, affine=affine)
        self.group, self.head = nn.GroupNorm(4, 8, affine=affine), nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.instance(self.first(x)))
        return self.head(torch.relu(self.group(self.second(x))) + F.group_norm(x[:, :8], 2))


def ops(model: ptqx.IntegerModel) -> list[str]:
    return [node.op for node in model.graph]


@pytest.mark.parametrize("how", ["int8", "w4a4", "int8-dynamic", "int8-weight-only", "int8-multiplier"])
@pytest.mark.parametrize("affine", [True, False])
def test_normalized_networks_have_nothing_left_float_and_the_same_bits(how: str, affine: bool) -> None:
    torch.manual_seed(0)
    model, x = Norms(affine).eval(), torch.randn(5, 3, 9, 10)
    prep = calibrate(prepare(model, how, x), [x])
    torch.testing.assert_close(prep.float_output(x), model(x), rtol=1e-4, atol=1e-5)
    qmodel = convert(prep)
    assert ops(qmodel).count("group_norm") == 3 and "float" not in ops(qmodel)
    assert torch.equal(qmodel(x), prep.eval()(x))
    if how == "int8":
        with torch.no_grad():
            assert (qmodel(x) - model(x)).norm() < 0.05 * model(x).norm()
        torch.compiler.reset()
        assert torch.equal(torch.compile(qmodel, fullgraph=True)(x), qmodel(x))
    if how != "int8-weight-only":
        engine = compile(qmodel, x)
        for batch in (x, x[:1]):
            assert torch.equal(engine(batch), qmodel(batch))


def test_their_parameters_learn_in_quantization_aware_training() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 9, 10)
    prep = calibrate(prepare(Norms(), "w4a4", x, qat=True), [x]).train()
    before = prep.get_parameter("group.weight").clone()
    optimizer = torch.optim.SGD(prep.parameters(), 0.1)
    prep(x).square().mean().backward()
    optimizer.step()
    assert not torch.equal(prep.get_parameter("group.weight"), before)
    qmodel = convert(prep.eval())
    assert torch.equal(compile(qmodel, x)(x), qmodel(x))


def test_instance_normalization_with_running_statistics_is_a_batch_norm() -> None:
    x = torch.randn(8, 3, 9, 10)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.InstanceNorm2d(6, affine=True, track_running_stats=True), nn.Conv2d(6, 2, 1)
    )
    for _ in range(3):
        model(x)
    prep = prepare(model.eval(), "int8", x)
    assert [node.op for node in prep.graph] == ["quantize", "conv2d", "conv2d"]
    torch.testing.assert_close(prep.float_output(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: F.group_norm(x.flatten(2), 2), "of [4, 30] a sample; only of [C, H, W]"),
        (lambda x: F.group_norm(x, 2, eps=0.0), "eps 0.0; it must be positive"),
    ],
    ids=["features", "eps"],
)
def test_others_stay_float_with_a_reason(function, reason: str) -> None:  # type: ignore[no-untyped-def]
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return function(self.conv(x))

    (node,) = [n for n in capture(Model(), torch.randn(2, 3, 5, 6)) if n.op == "float"]
    assert reason in node.reason


def test_files_hold_them(tmp_path: Path) -> None:
    x = torch.randn(2, 3, 9, 10)
    qmodel = ptqx.quantize(Norms().eval(), [x], "int8-dynamic")
    ptqx.save(qmodel, tmp_path / "norms.ptqx")
    assert torch.equal(ptqx.load(tmp_path / "norms.ptqx")(x), qmodel(x))


@pytest.mark.parametrize("style", ["qdq", "integer"])
def test_onnx_runtime_gives_the_same_and_ptqx_reads_it_back(style: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    x = torch.randn(4, 3, 9, 10)
    qmodel = ptqx.quantize(Norms().eval(), [x], "int8")
    ptqx.onnx.export(qmodel, tmp_path / "norms.onnx", x, style=style)
    verdict = ptqx.onnx.verify(qmodel, tmp_path / "norms.onnx", x)
    assert all(step.largest_difference <= 1 for step in verdict.steps if step.gives_codes), str(verdict)
    if style == "integer":
        assert verdict.codes_equal, str(verdict)
    else:
        loaded = ptqx.onnx.load(tmp_path / "norms.onnx")
        assert ops(loaded).count("group_norm") == 3
        assert torch.equal(loaded(x), qmodel(x))
