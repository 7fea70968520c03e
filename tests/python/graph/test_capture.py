from __future__ import annotations

import math
from collections.abc import Callable

import networks
import pytest
import torch
import torch.nn.functional as F
from ptqx.errors import PtqxError
from ptqx.graph import calibrate, capture, compile, convert, prepare
from torch import Tensor, nn


class Function(nn.Module):
    """A model that is one function after a convolution."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x))


class _Sum(nn.Module):
    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        total = self.parts[0](x)
        for part in list(self.parts)[1:]:
            total += part(x)
        return total


class _SelectiveKernel(nn.Module):
    """Attention that chooses between two convolutions, as SKNet's."""

    def __init__(self) -> None:
        super().__init__()
        self.paths = nn.ModuleList([nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 5, padding=2)])
        self.choose = nn.Conv2d(4, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.stack([path(x) for path in self.paths], dim=1)
        choice = self.choose(x.sum(1).mean((2, 3), keepdim=True))
        choice = torch.softmax(choice.view(x.shape[0], 2, 4, 1, 1), dim=1)
        return torch.sum(x * choice, dim=1)


class _SplitAttention(nn.Module):
    """Attention that weighs two groups of channels, as ResNeSt's."""

    def __init__(self) -> None:
        super().__init__()
        self.choose = nn.Conv2d(2, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        x = x.reshape(n, 2, channels // 2, height, width)
        choice = self.choose(x.sum(dim=1).mean((2, 3), keepdim=True))
        choice = F.softmax(choice.view(n, 1, 2, -1).transpose(1, 2), dim=1).reshape(n, -1).view(n, -1, 1, 1)
        x = x * choice.reshape(n, 2, channels // 2, 1, 1)
        return torch.cat([x.sum(dim=1), x[:, 1], x.reshape(n, channels, height, width)], 1)


def _center_crop(x: Tensor, height: int, width: int) -> Tensor:
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    return x[..., top : top + height, left : left + width]


FORMS = {
    "relu": (nn.ReLU(), [F.relu, torch.relu, lambda x: x.relu()]),
    "relu6": (nn.ReLU6(), [F.relu6]),
    "hardtanh": (nn.Hardtanh(-2, 2), [lambda x: F.hardtanh(x, -2, 2)]),
    "clip": (None, [lambda x: x.clamp(-1, 1), lambda x: torch.clip(x, min=0), lambda x: x.clamp(max=2.0)]),
    "leaky_relu": (nn.LeakyReLU(0.2), [lambda x: F.leaky_relu(x, 0.2)]),
    "prelu": (nn.PReLU(4), []),
    "hardsigmoid": (nn.Hardsigmoid(), [F.hardsigmoid]),
    "hardswish": (nn.Hardswish(), [F.hardswish]),
    "sigmoid": (nn.Sigmoid(), [torch.sigmoid, lambda x: x.sigmoid()]),
    "silu": (nn.SiLU(), [F.silu]),
    "tanh": (nn.Tanh(), [torch.tanh, lambda x: x.tanh()]),
    "gelu": (nn.GELU(), [F.gelu, lambda x: F.gelu(x, approximate="tanh")]),
    "elu": (nn.ELU(inplace=True), [lambda x: F.elu_(x)]),
    "selu": (nn.SELU(), [F.selu]),
    "celu": (nn.CELU(0.7), [lambda x: F.celu(x, 0.7)]),
    "rrelu": (nn.RReLU(), [F.rrelu]),
    "hardshrink": (nn.Hardshrink(), [F.hardshrink]),
    "softshrink": (nn.Softshrink(), [F.softshrink]),
    "tanhshrink": (nn.Tanhshrink(), [F.tanhshrink]),
    "threshold": (nn.Threshold(0.1, 0.3), [lambda x: F.threshold(x, 0.2, 0.2)]),
    "softplus": (nn.Softplus(), [F.softplus]),
    "powers": (None, [lambda x: x**2, lambda x: torch.pow(x, 3), lambda x: x.pow(2.0), torch.square]),
    "max_pool2d": (
        nn.MaxPool2d(2),
        [
            lambda x: F.max_pool2d(x, 2),
            nn.AdaptiveMaxPool2d((3, 2)),
            lambda x: F.adaptive_max_pool2d(x, 1),
            lambda x: x.amax((2, 3)),
            lambda x: torch.amax(x, (-1, -2), True),
        ],
    ),
    "avg_pool2d": (nn.AvgPool2d(2), [lambda x: F.avg_pool2d(x, 2)]),
    "adaptive_avg_pool2d": (
        nn.AdaptiveAvgPool2d(2),
        [
            lambda x: F.adaptive_avg_pool2d(x, (1, 1)),
            lambda x: x.mean((2, 3)),
            lambda x: x.mean([-1, -2], True),
            lambda x: x.flatten(2).mean(2),
            lambda x: x.view(x.size(0), 4, -1).mean(-1),
        ],
    ),
    "flatten": (
        nn.Flatten(),
        [
            lambda x: torch.flatten(x, 1),
            lambda x: x.view(x.size(0), -1),
            lambda x: x.reshape(x.shape[0], -1),
            lambda x: x.flatten(1),
        ],
    ),
    "dropout": (nn.Dropout(), [lambda x: F.dropout(x, 0.5, training=False)]),
    "add": (None, [lambda x: x + x, lambda x: torch.add(x, x), lambda x: x.add(x)]),
    "mul": (
        None,
        [
            lambda x: x * x,
            lambda x: x * x.mean((2, 3), keepdim=True),
            lambda x: x.mean((2, 3), True) * x,
            lambda x: x * x[:, 1:2],
            lambda x: torch.sigmoid(x[:, :1]) * x,
        ],
    ),
    "cat": (None, [lambda x: torch.cat([x, x], 1), lambda x: torch.cat((x, x), dim=-3)]),
    "slice": (
        None,
        [lambda x: x.chunk(2, 1)[1], lambda x: torch.split(x, [1, 3], dim=1)[1], lambda x: x[:, 1:3]],
    ),
    "channel_shuffle": (
        nn.ChannelShuffle(2),
        [
            lambda x: F.channel_shuffle(x, 2),
            lambda x: x.view(x.size(0), 2, 2, 6, 6).transpose(1, 2).contiguous().view(x.size(0), 4, 6, 6),
        ],
    ),
    "pad": (nn.ZeroPad2d((1, 2, 0, 1)), [lambda x: F.pad(x, (1, 2, 0, 1)), nn.ConstantPad2d(1, 0.0)]),
    "pad with itself": (
        nn.ReflectionPad2d(2),
        [
            nn.ReplicationPad2d((0, 1, 2, 7)),
            nn.CircularPad2d((6, 0, 1, 2)),
            nn.Conv2d(4, 4, 3, padding=(1, 2), padding_mode="reflect"),
            nn.Conv2d(4, 4, 4, padding="same", padding_mode="circular"),
            lambda x: F.pad(x, (1, 0, 2, 3), mode="reflect"),
            lambda x: F.pad(x, (1, 0, 2, 3), mode="replicate"),
            lambda x: F.pad(x, (1, 0, 2, 3), "circular"),
        ],
    ),
    "stacks": (_SelectiveKernel(), [_SplitAttention()]),
    "padded maxima": (
        None,
        [
            lambda x: F.max_pool2d(F.pad(-x.abs(), (0, 1, 1, 2), value=-math.inf), 3, 2),
            lambda x: F.max_pool2d(F.pad(-x.abs(), (1, 0), value=-math.inf), kernel_size=(4, 2), stride=1),
        ],
    ),
    "space to depth": (
        None,
        [
            lambda x: x.view(-1, 4, 3, 2, 3, 2).permute(0, 1, 3, 5, 2, 4).reshape(-1, 16, 3, 3),
            lambda x: x.view(-1, 4, 2, 3, 2, 3).permute(0, 3, 5, 1, 2, 4).contiguous().view(-1, 36, 2, 2),
            lambda x: x.reshape(-1, 1, 2, 2, 6, 6).permute(0, 1, 4, 2, 5, 3).reshape(-1, 1, 12, 12),
            lambda x: (
                torch.cat([x, x], 1).view(-1, 2, 2, 2, 6, 6).permute(0, 3, 4, 1, 5, 2).reshape(-1, 2, 12, 12)
            ),
        ],
    ),
    "difference": (None, [lambda x: F.avg_pool2d(x, 3, 1, 1) - x, lambda x: x.sub(torch.relu(x))]),
    "sums": (
        None,
        [
            lambda x: x + x + torch.tanh(x),
            _Sum(nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Identity()),
            _Sum(nn.Identity(), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)),
        ],
    ),
    "expand": (
        None,
        [
            lambda x: x * x.mean((2, 3), keepdim=True).expand_as(x),
            lambda x: x.amax((2, 3), keepdim=True).expand(-1, -1, 6, 6) * x,
            lambda x: torch.cat([x, x.mean((2, 3), True).expand_as(x)], 1),
        ],
    ),
    "channel pad": (None, [lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 6))]),
    "crop": (
        nn.ZeroPad2d((-1, 2, -2, -1)),
        [
            lambda x: x[:, :, 1:5, 2:],
            lambda x: x[..., 1:-1, -4:-2],
            lambda x: x[:, 1:3, :4, 1:6:2],
            lambda x: x[:, :, x.size(2) // 2 :],
            lambda x: F.pad(x, (-1, 3, 2, -4)),
            lambda x: F.pad(x, (0, 0, -1, -1, -1, 2)),
            lambda x: torch.narrow(x, 2, 1, 3),
            lambda x: x.narrow(-1, -3, 2),
            lambda x: x.narrow(1, 1, 2),
            lambda x: torch.cat(x.chunk(2, 3), 1),
            lambda x: x.split([1, 4, 1], 2)[1],
            lambda x: _center_crop(x, 3, 4),
        ],
    ),
    "pixel_shuffle": (
        nn.PixelShuffle(2),
        [lambda x: F.pixel_shuffle(torch.cat([x, x], 1), 2), lambda x: torch.pixel_shuffle(x, 1)],
    ),
    "pixel_unshuffle": (
        nn.PixelUnshuffle(3),
        [lambda x: F.pixel_unshuffle(x, 2), lambda x: F.pixel_shuffle(F.pixel_unshuffle(x[:, :1], 2), 2)],
    ),
    "upsample_nearest2d": (nn.Upsample(scale_factor=2), [lambda x: F.interpolate(x, scale_factor=3.0)]),
    "upsample_bilinear2d": (
        nn.Upsample(scale_factor=2, mode="bilinear"),
        [
            nn.UpsamplingBilinear2d(scale_factor=1.7),
            nn.Upsample((7, 13), mode="bilinear", align_corners=True),
            lambda x: F.interpolate(x, scale_factor=(1.5, 0.5), mode="bilinear"),
            lambda x: F.interpolate(x, size=(4, 1), mode="bilinear", align_corners=False),
            lambda x: F.interpolate(x[:, :, :1], (1, 9), mode="bilinear", align_corners=True),
            lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear", recompute_scale_factor=True),
            lambda x: x + F.interpolate(F.max_pool2d(x, 2), x.shape[2:], mode="bilinear"),
        ],
    ),
    "reshape": (
        None,
        [
            lambda x: x * x.mean((2, 3)).view(x.size(0), 4, 1, 1),
            lambda x: x * x.mean((2, 3)).unsqueeze(2).unsqueeze(3),
            lambda x: x * x.mean((2, 3))[:, :, None, None],
            lambda x: x.view(x.size(0), 4, -1).view(x.size(0), 4, 6, 6) + 1,
            lambda x: F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1),
        ],
    ),
    "permute": (None, [lambda x: x.permute(0, 2, 3, 1), lambda x: x.transpose(2, 3)]),
    "batch_norm": (nn.BatchNorm2d(4), [nn.SyncBatchNorm(4)]),
    "scalars": (None, [lambda x: x * 0.5 + 1, lambda x: (1 - x) / 3, lambda x: 2 * x - 1]),
    "identity": (nn.Identity(), [lambda x: x.contiguous()]),
    "casts": (None, [lambda x: x.float(), lambda x: x.to(torch.float32), lambda x: x.double().type_as(x)]),
}
CASES = [
    pytest.param(form, id=f"{name}-{'module' if isinstance(form, nn.Module) else f'function{i}'}")
    for name, (module, functions) in FORMS.items()
    for i, form in enumerate([*([module] if module is not None else []), *functions])
]


@pytest.mark.parametrize("form", CASES)
def test_capture_of_each_form_has_an_integer_form_and_the_same_values(
    form: Callable[[Tensor], Tensor],
) -> None:
    model = networks.with_statistics(Function(form)).eval()
    x = torch.randn(2, 3, 6, 6)
    graph = capture(model, x)
    assert [node.name for node in graph if node.op == "float"] == []
    prep = prepare(model, "int8", x)
    torch.testing.assert_close(prep.float_output(x), model(x), rtol=1e-4, atol=1e-5)
    whole = nn.Sequential(model, nn.Flatten(), nn.Linear(math.prod(model(x).shape[1:]), 5)).eval()
    integer = convert(calibrate(prepare(whole, "int8", x), [x]))
    assert torch.equal(compile(integer, x)(x), integer(x))


class WithParameter(nn.Module):
    def __init__(
        self, function: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...], learned: bool = False
    ) -> None:
        super().__init__()
        self.function, self.conv = function, nn.Conv2d(3, 4, 1)
        numbers = torch.linspace(0.5, 2.0, math.prod(shape)).reshape(shape)
        if learned:
            self.numbers: Tensor = nn.Parameter(numbers)
        else:
            self.register_buffer("numbers", numbers)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.function(x, self.numbers))


@pytest.mark.parametrize("shape", [(), (1,), (3, 1, 1), (1, 3, 1, 1)], ids=str)
@pytest.mark.parametrize("before", [False, True], ids=["input", "layer"])
@pytest.mark.parametrize(
    "function",
    [
        lambda x, p: x + p,
        lambda x, p: p + x,
        lambda x, p: x - p,
        lambda x, p: x * p,
        lambda x, p: x / p,
        lambda x, p: (x - p) / p,
        lambda x, p: x * (p + p) - p.square(),
        lambda x, p: x * p.flatten().view(-1, 1, 1) + p.reshape(1, -1, 1, 1),
        lambda x, p: (x / p + p) * p,
        lambda x, p: torch.relu(x * p) - p,
    ],
    ids=["add", "add-right", "sub", "mul", "div", "normalize", "computed", "reshaped", "mixed", "activation"],
)
def test_arithmetic_with_parameters_has_an_integer_form(
    function: Callable[[Tensor, Tensor], Tensor], before: bool, shape: tuple[int, ...]
) -> None:
    x = torch.randn(4, 3, 5, 5)
    model: nn.Module = WithParameter(function, shape)
    model = (nn.Sequential(nn.Conv2d(3, 3, 1), model) if before else model).eval()
    prep = calibrate(prepare(model, "int8", x), [x])
    assert [node.name for node in prep.graph if node.op == "float"] == []
    torch.testing.assert_close(prep.float_output(x), model(x), rtol=1e-4, atol=1e-5)
    integer = convert(prep)
    assert torch.equal(compile(integer, x)(x), integer(x))


@pytest.mark.parametrize("shape", [(), (3,), (1, 3, 1, 1)], ids=str)
def test_parameters_that_are_reshaped_learn_in_quantization_aware_training(shape: tuple[int, ...]) -> None:
    x = torch.randn(4, 3, 5, 5)

    def function(x: Tensor, p: Tensor) -> Tensor:
        return x * p.reshape(-1, 1, 1) + p.view(1, -1, 1, 1)

    model = nn.Sequential(nn.Conv2d(3, 3, 1), WithParameter(function, shape, learned=True)).eval()
    prep = calibrate(prepare(model, "w4a4", x, qat=True), [x]).train()
    assert [node.name for node in prep.graph if node.op == "float"] == []
    prep(x).square().mean().backward()
    gradient = prep.get_parameter("1.numbers").grad
    assert gradient is not None and gradient.shape == shape and bool((gradient != 0).all())
    assert torch.equal(convert(prep.eval())(x), prep(x))


def _converted(function: Callable[[Tensor, Tensor], Tensor]) -> list[str]:
    """Operations, of a network whose arithmetic is that of the model."""
    x = torch.randn(4, 3, 6, 6)
    model = WithParameter(function, (3, 1, 1))
    prep = calibrate(prepare(model.eval(), "int8", x), [x])
    torch.testing.assert_close(prep.float_output(x), model(x), rtol=1e-4, atol=1e-5)
    convert(prep)
    return [node.op for node in prep.graph]


@pytest.mark.parametrize(
    "function",
    [lambda x, p: p / x.abs().clamp(min=1), lambda x, p: torch.add(x, p, alpha=2)],
    ids=["over", "alpha"],
)
def test_other_arithmetic_with_parameters_stays_float(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert "float" in _converted(function)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, p: p - x,
        lambda x, p: x * (x.flatten(2) * p.flatten()[:, None]).view(x.size(0), 3, 6, 6),
    ],
    ids=["from", "rows"],
)
def test_arithmetic_with_parameters_of_other_shapes_is_of_constants(
    function: Callable[[Tensor, Tensor], Tensor],
) -> None:
    ops = _converted(function)
    assert "constant" in ops and "float" not in ops


def _span(x: Tensor) -> Tensor:
    both = torch.aminmax(x, dim=1, keepdim=True)
    low, high = both
    return low + high


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens, need_weights=False)[0]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x.flatten(2).transpose(1, 2))[0]


@pytest.mark.parametrize(
    ("form", "names"),
    [
        (Attention(), ["attention.0"]),
        (Recurrent(), ["lstm.0"]),
        (lambda x: torch.min(x, 1, keepdim=True)[0] * x, ["min.0"]),
        (lambda x: torch.min(x, 1, keepdim=True).values, ["min.values"]),
        (_span, ["aminmax.0", "aminmax.1"]),
        (lambda x: F.max_pool2d(x, 2, return_indices=True)[0], ["max_pool2d_with_indices.0"]),
    ],
    ids=["attention", "lstm", "index", "name", "both", "pool"],
)
def test_one_of_several_tensors_of_a_call_is_a_float_part(
    form: Callable[[Tensor], Tensor], names: list[str]
) -> None:
    x = torch.randn(3, 3, 6, 6)
    model = Function(form).eval()
    prep = calibrate(prepare(model, "int8", x), [x])
    assert [node.name.removeprefix("function.") for node in prep.graph if node.op == "float"] == names
    torch.testing.assert_close(prep.float_output(x), model(x), rtol=1e-4, atol=1e-5)
    convert(prep)


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_weights_that_are_computed_from_others_stay_float_and_say_what_to_do() -> None:
    x = torch.randn(2, 3, 6, 6)
    with torch.no_grad():  # as when its weights are loaded: only then can it be copied
        old = nn.utils.weight_norm(nn.Conv2d(3, 3, 1))
    new = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1))
    prep = calibrate(prepare(nn.Sequential(old, new, nn.Conv2d(3, 2, 1)).eval(), "int8", x), [x])
    first, second = [node.reason for node in prep.graph if node.op == "float"]
    assert "remove the reparametrization first" in first
    assert "remove_parametrizations makes it a plain layer" in second
    convert(prep)


def test_capture_when_a_submodule_has_control_flow_keeps_it_float_with_reason_and_line() -> None:
    graph = capture(networks.PartlyUntraceable(), torch.randn(1, 3, 8, 8))
    (leaf,) = [node for node in graph if node.op == "float"]
    assert leaf.name == "middle"
    assert "control flow" in leaf.reason
    assert leaf.source.startswith("networks.py:") and "if x.sum() > 0" in leaf.source


def test_capture_when_the_root_has_control_flow_names_class_and_line() -> None:
    with pytest.raises(
        PtqxError, match=r"ControlFlow can't be captured: .*control flow.* at networks\.py:\d+"
    ):
        capture(networks.ControlFlow(), torch.randn(1, 3))


def test_capture_of_an_operation_without_integer_form_keeps_it_float() -> None:
    graph = capture(Function(lambda x: torch.cumsum(x, 1)), torch.randn(1, 3, 6, 6))
    assert [(n.op, n.reason) for n in graph][-1] == ("float", "cumsum has no integer form")


def test_capture_does_not_change_the_model() -> None:
    model = networks.with_statistics(networks.Residual()).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    capture(model, torch.randn(2, 3, 8, 8))
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_capture_when_two_inputs_are_needed_says_so() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    with pytest.raises(PtqxError, match=r"example_inputs|one input"):
        capture(Two(), torch.randn(1, 3))


def test_capture_when_the_example_does_not_fit_says_its_shape() -> None:
    with pytest.raises(PtqxError, match=r"example_inputs of shape \(1, 5, 6, 6\)"):
        capture(networks.Residual(), torch.randn(1, 5, 6, 6))


@pytest.mark.parametrize(
    "example", [None, torch.zeros(2, 3, dtype=torch.int32), torch.zeros(0, 3, 8, 8), (1, 2)], ids=str
)
def test_capture_when_example_inputs_is_no_float_batch_raises(example: object) -> None:
    with pytest.raises(PtqxError, match="example_inputs"):
        capture(networks.Residual(), example)


def test_capture_after_an_in_place_operation_reads_the_changed_tensor() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu = nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            y = self.relu(x)
            return x + y  # x was changed

    model, x = InPlace(), torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(prepare(model, "int8", x).float_output(x), model(x))


def test_capture_of_a_module_called_twice_makes_two_nodes() -> None:
    conv = nn.Conv2d(3, 3, 1)
    graph = capture(nn.Sequential(conv, nn.ReLU(), conv), torch.randn(1, 3, 4, 4))
    assert [node.params["weight"] for node in graph if node.op == "conv2d"] == ["0.weight", "0.weight"]
