"""Networks that give images: crops, pixel shuffles and interpolation, equal simulated, integer and in the
engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import networks
import ptqx
import pytest
import torch
import torch.nn.functional as F
from ptqx import _C
from ptqx.graph import calibrate, capture, compile, convert, prepare
from torch import Tensor, nn


@pytest.fixture
def ceiling() -> Iterator[None]:
    before = _C.isa_ceiling()
    yield
    _C.set_isa_ceiling(before)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "u-net": (networks.UNet, (4, 3, 20, 22)),
    "u-net unpadded": (lambda: networks.UNet(unpadded=True), (2, 3, 44, 52)),
    "super resolution": (networks.SuperResolution, (4, 1, 9, 11)),
}


@pytest.mark.parametrize("recipe", ["int8", "w4a4", "int8-dynamic"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_images_has_nothing_left_float_and_the_same_bits_in_the_engine(
    name: str, recipe: str
) -> None:
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    model, x = make().eval(), torch.randn(shape)
    prep = ptqx.calibrate(ptqx.prepare(model, recipe, x), [x])
    qmodel = ptqx.convert(prep)
    assert not any(node.op == "float" for node in qmodel.graph)
    if recipe != "int8-dynamic":  # what the last layer gives is moved as it is
        coverage = ptqx.coverage(qmodel)
        assert coverage.mac_share == 1.0 and {row.kind for row in coverage.float_rows} <= {"pixel_shuffle"}
    other = torch.randn(shape) * 2
    expected = prep.eval()(other)
    assert torch.equal(qmodel(other), expected)
    if recipe == "int8":
        with torch.no_grad():
            error = (qmodel(x) - model(x)).norm() / model(x).norm()
        assert error < 0.05
    engine = ptqx.compile(qmodel, x)
    assert torch.equal(engine(other), expected)
    assert torch.equal(engine(other[:1]), expected[:1])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_images_is_equal_compiled_and_exported(name: str) -> None:
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    x = torch.randn(shape)
    qmodel = ptqx.quantize(make().eval(), [x], "int8")
    expected = qmodel(x)
    assert torch.equal(torch.compile(qmodel, fullgraph=True)(x), expected)
    assert torch.equal(torch.export.export(qmodel, (x,)).module()(x), expected)


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, 4, 3, padding=1), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x))


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        (lambda x: F.interpolate(x, (9, 9), mode="bicubic"), "mode 'bicubic'; only nearest and bilinear"),
        (
            lambda x: F.interpolate(x, (3, 3), mode="bilinear", antialias=True),
            "mode 'bilinear' with antialias; only",
        ),
        (lambda x: F.interpolate(x, (7, 7)), "only whole factors"),
        (
            lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear"),
            r"scale_factor 1.7 of [6, 6] is no whole size; give size=[10, 10], or recompute_scale_factor",
        ),
        (lambda x: F.interpolate(x, scale_factor=2.1), "scale_factor 2.1 of [6, 6] is no whole size"),
        (lambda x: F.interpolate(x.flatten(2), 9, mode="linear"), "only of [C, H, W]"),
        (lambda x: x[:, :, 2:2].sum((2, 3)), "an empty slice"),
        (lambda x: x[:, ::2], "a step over channels"),
        (lambda x: x.flatten(2)[..., 3:9], "dimension 2 of [4, 36] a sample"),
        (lambda x: x[:, :, [1, 3]], "index"),
    ],
)
def test_capture_of_other_interpolations_and_slices_says_why_they_stay_float(
    form: Callable[[Tensor], Tensor], reason: str
) -> None:
    graph = capture(Function(form), torch.randn(1, 3, 6, 6))
    assert any(reason in node.reason for node in graph if node.op == "float")


def test_a_crop_is_not_merged_into_the_convolution_behind_it() -> None:
    x = torch.randn(2, 3, 8, 8)
    model = nn.Sequential(nn.ZeroPad2d((-1, 0, 0, -2)), nn.Conv2d(3, 4, 3, padding=1)).eval()
    prep = prepare(model, "int8", x)
    torch.testing.assert_close(prep.float_output(x), model(x), rtol=1e-4, atol=1e-5)


class Upsampled(nn.Module):
    def __init__(self, **how: Any) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 19, 3, padding=1), nn.Conv2d(19, 2, 1)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.interpolate(torch.relu(self.first(x)), mode="bilinear", **self.how))


SIZES = [
    {"scale_factor": 2},
    {"size": (16, 7), "align_corners": True},
    {"size": (5, 31)},
    {"size": (1, 1)},
    {"scale_factor": 0.5, "align_corners": True},
]


@pytest.mark.parametrize("isa", _C.isas_supported())
@pytest.mark.parametrize("how", SIZES, ids=str)
def test_bilinear_upsampling_is_equal_on_every_instruction_set(
    how: dict[str, Any], isa: str, ceiling: None
) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 3, 8, 6)
    prep = calibrate(prepare(Upsampled(**how).eval(), "int8", x), [x]).eval()
    model = convert(prep)
    engine, expected = compile(model, x), prep(x * 2)
    _C.set_isa_ceiling(isa)
    assert torch.equal(model(x * 2), expected)
    assert torch.equal(engine(x * 2), expected)


@pytest.mark.parametrize("name", ["w2a4", "int8-dynamic", "int8-weight-only", "int8-multiplier", "fixed16"])
def test_bilinear_upsampling_is_equal_in_recipes_of_every_kind(name: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 3, 8, 6)
    prep = calibrate(prepare(Upsampled(scale_factor=1.5).eval(), name, x), [x]).eval()
    assert torch.equal(convert(prep)(x * 2), prep(x * 2))


def test_bilinear_upsampling_of_real_values_is_near_pytorchs() -> None:
    x = torch.randn(2, 5, 9, 7)
    for how in SIZES:
        size = F.interpolate(x, mode="bilinear", **how).shape[2:]
        align_corners = bool(how.get("align_corners"))
        ours = ptqx.ops.upsample_bilinear2d(x, None, list(size), align_corners)
        torch.testing.assert_close(ours, F.interpolate(x, mode="bilinear", **how), rtol=1e-4, atol=1e-5)


def test_an_upsampled_network_learns_in_quantization_aware_training() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8)
    prep = calibrate(prepare(networks.UNet(), "int8", x, qat=True), [x]).train()
    prep(x).square().mean().backward()
    assert all(bool((p.grad != 0).any()) for n, p in prep.named_parameters() if n.endswith("weight"))
    assert torch.equal(convert(prep.eval())(x), prep(x))
