"""Transposed convolutions: convolutions of images with zeros between the pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ptqx
import pytest
import torch
import torch.nn.functional as F
from ptqx import _C, calibrate, compile, convert, coverage, prepare
from ptqx.graph import capture
from torch import Tensor, nn

FORMS = {
    "stride of the kernel": nn.ConvTranspose2d(8, 6, 2, stride=2),
    "kernel 4": nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1),
    "output padding": nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1),
    "odd size": nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, bias=False),
    "no stride": nn.ConvTranspose2d(8, 6, 3, padding=1),
    "rows and columns differ": nn.ConvTranspose2d(8, 6, (3, 2), stride=(3, 1), padding=(0, 1)),
    "groups": nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1, groups=2),
    "depthwise": nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1, groups=8),
    "dilation": nn.ConvTranspose2d(8, 6, 3, stride=2, padding=2, dilation=2),
    "stride beyond the kernel": nn.ConvTranspose2d(8, 6, 2, stride=3, output_padding=1),
}
IN_PHASES = set(FORMS) - {"dilation", "stride beyond the kernel", "no stride"}


def network(form: nn.Module, norm: bool = False) -> nn.Module:
    torch.manual_seed(3)
    out = form.out_channels
    assert isinstance(out, int)
    rest = [nn.BatchNorm2d(out)] if norm else []
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), form, *rest, nn.ReLU(), nn.Conv2d(out, 4, 1), nn.Flatten()
    )
    if norm:
        for _ in range(3):
            model(torch.randn(8, 3, 7, 7))
    return model.eval()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("recipe", ["int8", "w4a4", "int8-dynamic", "int8-weight-only"])
def test_every_form_runs_on_integers_with_the_same_values(form: str, recipe: str) -> None:
    model, x = network(FORMS[form]), torch.randn(5, 3, 7, 7)
    prep = calibrate(prepare(model, recipe, x), [x])
    assert [node.name for node in prep.graph if node.op == "float"] == []
    torch.testing.assert_close(prep.float_output(x), model(x), rtol=1e-4, atol=1e-5)
    qmodel = convert(prep)
    if recipe != "int8-weight-only":
        assert torch.equal(compile(qmodel, x)(x), qmodel(x))


@pytest.mark.parametrize("form", FORMS)
def test_engine_multiplies_with_no_zeros_between_pixels(form: str) -> None:
    x = torch.randn(1, 3, 7, 7)
    engine = compile(ptqx.quantize(network(FORMS[form]), [x], "int8"), x)
    steps = [step["op"] for step in _C.engine_steps(engine.program)]
    assert ("upsample_zeros2d" in steps) == (form not in IN_PHASES and form != "no stride")


def test_multiplications_are_those_with_pixels() -> None:
    form, x = nn.ConvTranspose2d(8, 6, 2, stride=2), torch.randn(1, 3, 7, 7)
    rows = {row.name: row for row in coverage(ptqx.quantize(network(form), [x], "int8")).rows}
    assert rows["2"].macs == 5 * 5 * 8 * 6 * 4


def test_batch_norm_behind_it_is_folded_and_trains_unfolded() -> None:
    model, x = network(nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1), norm=True), torch.randn(6, 3, 7, 7)
    assert "batch_norm" not in [node.op for node in prepare(model, "int8", x).graph]
    prep = calibrate(prepare(model, "w4a4", x, qat=True), [x]).train()
    before = prep.get_parameter("2.weight").clone()
    optimizer = torch.optim.SGD(prep.parameters(), 0.05)
    for _ in range(2):
        optimizer.zero_grad()
        prep(x).square().mean().backward()
        optimizer.step()
    assert not torch.equal(prep.get_parameter("2.weight"), before)
    qmodel = convert(prep.eval())
    assert torch.equal(compile(qmodel, x)(x), qmodel(x))


@pytest.mark.parametrize("method", ["gptq", "adaround", "bias_correction", "equalization", "range_search"])
def test_methods_round_its_weights(method: str) -> None:
    model, x = network(nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1)), torch.randn(32, 3, 7, 7)
    weight = model.get_parameter("2.weight").clone()
    qmodel = ptqx.quantize(model, [x], f"w4a8+{method}")
    assert torch.equal(model.get_parameter("2.weight"), weight)
    error = (qmodel(x) - model(x)).square().mean() / model(x).square().mean()
    assert error < 0.02
    assert torch.equal(compile(qmodel, x)(x), qmodel(x))


def test_binary_weights_never_meet_zeros_as_signs() -> None:
    """Zeros between pixels are no signs: the layer multiplies bytes."""
    form = nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1)
    x = torch.randn(5, 3, 7, 7)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), form, nn.Conv2d(6, 8, 3), nn.Conv2d(8, 4, 1)).eval()
    qmodel = convert(calibrate(prepare(model, "w1a1", x), [x]))
    assert torch.equal(compile(qmodel, x)(x), qmodel(x))


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: F.conv_transpose2d(x, w, None, 2, 1, 1),
        lambda x, w: torch.conv_transpose2d(x, weight=w, stride=2, groups=1),
    ],
)
def test_functions(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    class Up(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 5, 3, 3))

        def forward(self, x: Tensor) -> Tensor:
            return function(x, self.weight)

    model, x = Up().eval(), torch.randn(2, 3, 6, 6)
    prep = calibrate(prepare(model, "int8", x), [x])
    torch.testing.assert_close(prep.float_output(x), model(x), rtol=1e-4, atol=1e-5)
    qmodel = convert(prep)
    assert torch.equal(compile(qmodel, x)(x), qmodel(x))


def test_output_size_decides_as_in_pytorch() -> None:
    class Up(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(3, 5, 3, stride=2, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.up(x, output_size=[2 * x.shape[2], 2 * x.shape[3]])

    model, x = Up().eval(), torch.randn(2, 3, 6, 6)
    prep = prepare(model, "int8", x)
    torch.testing.assert_close(prep.float_output(x), model(x), rtol=1e-4, atol=1e-5)


def test_padding_beyond_the_kernel_stays_float_with_a_reason() -> None:
    model = nn.Sequential(nn.ConvTranspose2d(3, 4, 3, padding=3), nn.Conv2d(4, 2, 1))
    (node,) = [n for n in capture(model, torch.randn(1, 3, 8, 8)) if n.op == "float"]
    assert "padding" in node.reason


def test_integer_model_survives_file_compile_and_export(tmp_path: Path) -> None:
    model, x = network(nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1)), torch.randn(3, 3, 7, 7)
    qmodel = ptqx.quantize(model, [x], "int8")
    ptqx.save(qmodel, tmp_path / "up.ptqx")
    assert torch.equal(ptqx.load(tmp_path / "up.ptqx")(x), qmodel(x))
    assert torch.equal(torch.compile(qmodel, fullgraph=True)(x), qmodel(x))
    program = torch.export.export(qmodel, (x,), dynamic_shapes=({0: torch.export.Dim("n", min=1)},))
    assert torch.equal(program.module()(x[:2]), qmodel(x[:2]))


def test_channels_are_removed_along_the_other_axis() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 12, 2, stride=2),
        nn.ReLU(),
        nn.Conv2d(12, 4, 1),
    ).eval()
    x = torch.randn(2, 3, 8, 8)
    removal = ptqx.sparsity.remove_channels(model, x, 0.5, multiple=2)
    narrow = removal.model
    assert narrow[2].weight.shape[0] == narrow[0].out_channels < 16
    assert narrow[2].weight.shape[1] == narrow[4].in_channels == narrow[2].out_channels < 12
    assert narrow(x).shape == model(x).shape
