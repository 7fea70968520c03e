"""What is known while a model is traced: shapes, constants; and what is not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import networks
import pytest
import torch
import torch.nn.functional as F
from ptqx import calibrate, compile, convert, coverage, prepare, quantize
from ptqx.errors import PtqxError
from ptqx.graph import capture
from torch import Tensor, nn


class SamePadding(nn.Conv2d):
    """As TensorFlow pads: by the size of the image."""

    def forward(self, x: Tensor) -> Tensor:
        padding = []
        for size, kernel, stride in zip(
            x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        if any(padding):
            x = F.pad(x, padding)
        return super().forward(x)


class WeightStandardized(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(flat, None, None, training=True, momentum=0.0).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class Forms(nn.Module):
    """One function between two convolutions."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 1)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x)))


def _by_size(x: Tensor) -> Tensor:
    _, channels, height, width = x.shape
    assert channels == 4 and x.dim() == 4 and len(x.shape) == 4
    if height > 4 and x.size(-1) == width and x.numel() > 2:
        x = F.max_pool2d(x, math.ceil(height / 4))
    torch._assert(x.shape[-1] < width, "smaller")
    return x


def _parts(x: Tensor) -> Tensor:
    total = None
    for part in x.chunk(2, 1):
        total = part if total is None else total + part
    return torch.cat([total, total], 1)


def _positions(x: Tensor) -> Tensor:
    return x + torch.arange(4.0).view(1, 4, 1, 1).expand(x.shape[0], 4, 1, 1)


def _column_of(x: Tensor) -> Tensor:
    mask = torch.zeros(4, 1, 1)
    mask[1:3] = 1.5
    return x * mask


@pytest.mark.parametrize(
    "form",
    [
        SamePadding(4, 4, 3, stride=2),
        SamePadding(4, 4, 4, groups=4),
        WeightStandardized(4, 4, 3, padding=1),
        _by_size,
        _parts,
        _positions,
        _column_of,
        lambda x: x.view(-1, *x.shape[1:]) * (x.shape[2] / x.size(3)),
        lambda x: x * x.mean((2, 3)).view(len(x), -1, 1, 1),
    ],
    ids=["same", "same depthwise", "standardized", "size", "parts", "positions", "mask", "shape", "len"],
)
def test_what_follows_from_shapes_and_parameters_has_an_integer_form(
    form: Callable[[Tensor], Tensor],
) -> None:
    model, x = Forms(form).eval(), torch.randn(3, 3, 9, 8)
    prep = calibrate(prepare(model, "int8", x), [x])
    assert [node.name for node in prep.graph if node.op == "float"] == []
    torch.testing.assert_close(prep.float_output(x[:1]), model(x[:1]), rtol=1e-4, atol=1e-5)
    integer = convert(prep)
    assert coverage(integer).mac_share == 1.0
    assert torch.equal(compile(integer, x)(x), integer(x))


def test_weights_computed_of_parameters_learn_in_quantization_aware_training() -> None:
    model, x = Forms(WeightStandardized(4, 4, 3, padding=1)).eval(), torch.randn(3, 3, 6, 6)
    prep = calibrate(prepare(model, "w4a4", x, qat=True), [x]).train()
    (path,) = [node.params["weight"] for node in prep.graph if node.name.startswith("function.")]
    assert path not in dict(model.named_parameters())
    prep(x).square().mean().backward()
    gradient = prep.get_parameter(path).grad
    assert gradient is not None and bool((gradient != 0).any())
    assert torch.equal(convert(prep.eval())(x), prep(x))


class MixesSamples(nn.Module):
    """Attention over rows: samples and columns in one dimension."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        rows = x.permute(0, 3, 2, 1).reshape(n * w, h, c)
        mixed = F.scaled_dot_product_attention(rows, rows, rows)
        return mixed.view(n, w, h, c).permute(0, 3, 2, 1)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.mix = nn.Conv2d(4, 4, 1), MixesSamples()

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(self.before(x)) + x


def test_modules_that_mix_samples_stay_float_for_any_batch() -> None:
    model, x = Forms(Attention()).eval(), torch.randn(3, 3, 6, 5)
    prep = calibrate(prepare(model, "int8", x), [x])
    assert [node.name for node in prep.graph if node.op == "float"] == ["function.mix"]
    qmodel = convert(prep)
    for batch in (1, 2, 7):
        y = torch.randn(batch, 3, 6, 5)
        torch.testing.assert_close(prep.float_output(y), model(y), rtol=1e-4, atol=1e-5)
        assert torch.equal(qmodel(y), prep(y))


def test_what_is_not_computed_of_the_parts_of_a_stack_is_computed_of_all() -> None:
    model, x = Forms(lambda x: torch.stack([x, -x, x * 2], 1).amax(1)).eval(), torch.randn(3, 3, 6, 5)
    prep = calibrate(prepare(model, "int8", x), [x])
    assert [node.name for node in prep.graph if node.op == "float"] == ["amax"]
    torch.testing.assert_close(prep.float_output(x), model(x), rtol=1e-4, atol=1e-5)
    convert(prep)


def test_coverage_counts_multiplications_of_float_parts() -> None:
    model, x = Forms(Attention()).eval(), torch.randn(3, 3, 6, 5)
    covered = coverage(quantize(model, [x], "int8"))
    macs = {row.name: row.macs for row in covered.rows}
    assert macs["function.mix"] == 2 * 5 * 6 * 6 * 4
    layers = 30 * (3 * 4 * 9 + 4 * 4 + 4 * 5)
    assert covered.mac_share == layers / (layers + macs["function.mix"])


class Reads(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _writes(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 0] = 0.0
    return y


def _writes_into_constant(x: Tensor) -> Tensor:
    y = torch.zeros(x.shape)
    y.add_(x)
    return y


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: x / x.abs().max().item(), "item reads the values"),
        (lambda x: x if x.sum() > 0 else -x, "control flow"),
        (lambda x: x * torch.tensor(x[:, 0, 0, 0].tolist()).view(-1, 1, 1, 1), "tolist reads the values"),
        (_writes, "a part of a tensor is written"),
        (_writes_into_constant, "add_ writes results of the network into a constant"),
    ],
    ids=["item", "branch", "tolist", "setitem", "add_"],
)
def test_a_module_that_depends_on_values_stays_float(
    function: Callable[[Tensor], Tensor], reason: str
) -> None:
    model, x = Forms(Reads(function)).eval(), torch.randn(3, 3, 6, 6)
    prep = calibrate(prepare(model, "int8", x), [x])
    (node,) = [node for node in prep.graph if node.op == "float"]
    assert node.name == "function" and reason in node.reason
    torch.testing.assert_close(prep.float_output(x), model(x), rtol=1e-4, atol=1e-5)


def test_parts_of_a_module_that_gives_a_dict_are_found() -> None:
    class Heads(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            if x.sum() > 1e9:
                x = -x
            return {"sign": x.sign(), "size": x.abs()}

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.heads = nn.Conv2d(3, 4, 1), Heads()

        def forward(self, x: Tensor) -> Tensor:
            return self.heads(self.conv(x))["size"]

    model, x = Model().eval(), torch.randn(2, 3, 4, 4)
    prep = calibrate(prepare(model, "int8", x), [x])
    assert [node.name for node in prep.graph if node.op == "float"] == ["heads.size"]
    torch.testing.assert_close(prep.float_output(x), model(x))
    convert(prep)


class Amplifies(nn.Module):
    """Makes of float32's last bits what shows: a folded batch norm rounds otherwise."""

    def __init__(self, for_one_sample: float) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.for_one_sample = for_one_sample

    def forward(self, x: Tensor) -> Tensor:
        y = torch.sin(self.bn(self.conv(x)) * 2e4)
        return y + self.for_one_sample if len(x) == 1 else y


def test_what_rounding_makes_of_a_network_is_no_difference_of_its_capture() -> None:
    torch.manual_seed(0)
    x, model = torch.randn(2, 3, 8, 8), networks.with_statistics(Amplifies(0.0)).eval()
    prep = prepare(model, "int8", x)
    with torch.no_grad():
        assert float((prep.float_output(x) - model(x)).abs().max()) > 1e-3
    with pytest.raises(PtqxError, match=r"captured network differs from the model by 0\.\d+ of the largest"):
        prepare(networks.with_statistics(Amplifies(0.1)).eval(), "int8", x)


def test_results_that_a_model_keeps_do_not_hinder_its_copy() -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.kept = nn.Conv2d(3, 4, 1), dict[str, Tensor]()

        def forward(self, x: Tensor) -> Tensor:
            if "bias" not in self.kept:
                self.kept["bias"] = self.conv.bias * 2
            return self.conv(x) + self.kept["bias"].view(1, -1, 1, 1)

    model, x = Keeps().eval(), torch.randn(2, 3, 4, 4)
    expected = model(x)  # with gradients
    torch.testing.assert_close(prepare(model, "int8", x).float_output(x), expected)


def test_a_module_whose_code_fails_on_the_example_says_so() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.Conv2d(5, 4, 1)))
    with pytest.raises(PtqxError, match=r"example_inputs of shape \(1, 3, 8, 8\) do not fit the model"):
        capture(model, torch.randn(1, 3, 8, 8))


class Anchors(nn.Module):
    """A detector's head: constants made for the shape of the features, and kept for the next call."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.shape: torch.Size | None = None
        self.anchors: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.shape != x.shape:
            columns = torch.arange(x.shape[3]).type_as(x) + 0.5
            strides = x.new_full((x.shape[2], 1), 8)
            self.anchors, self.shape = columns * strides, x.shape
        return x + self.anchors


class Detector(nn.Module):
    """Takes further arguments, which nobody gives."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 3, 3), Anchors()

    def forward(self, x: Tensor, *args: Any, augment: bool = False, **kwargs: Any) -> Tensor:
        assert not args and not kwargs and not augment
        return self.head(self.stem(x))


def test_constants_of_shapes_are_kept_between_calls_and_depend_on_nothing() -> None:
    x = torch.randn(2, 3, 8, 10)
    model = Detector().eval()
    graph = capture(model, x)
    assert [node.name for node in graph if node.op == "constant"] == ["head.add.constant"]
    assert model.head.anchors is None, "the model itself was not run"
    prep = prepare(model, "int8", x)
    with torch.no_grad():
        torch.testing.assert_close(prep.float_output(x), model(x), rtol=1e-4, atol=1e-4)


def test_what_a_trace_that_failed_has_kept_is_forgotten() -> None:
    class Branches(Anchors):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            return y if y.sum() > 0 else -y

    x = torch.randn(2, 3, 8, 10)
    model = Detector().eval()
    model.head = Branches().eval()
    prep = prepare(model, "int8", x)
    assert [node.name for node in prep.graph if node.op == "float"] == ["head"]
    with torch.no_grad():
        torch.testing.assert_close(prep.float_output(x), model(x), rtol=1e-4, atol=1e-4)


def test_new_tensors_of_the_batch_size_leave_their_module_float() -> None:
    class Ones(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(torch.cat([x[:, :2], x.new_ones(x.shape[0], 1, *x.shape[2:])], dim=1))

    model = nn.Sequential(Ones(), nn.Conv2d(4, 2, 1)).eval()
    for samples in (1, 2):
        x = torch.randn(samples, 3, 6, 6)
        prep = prepare(model, "int8", x)
        more = torch.randn(3, 3, 6, 6)
        with torch.no_grad():
            torch.testing.assert_close(prep.float_output(more), model(more), rtol=1e-4, atol=1e-4)
