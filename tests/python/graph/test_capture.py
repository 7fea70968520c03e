from __future__ import annotations

from collections.abc import Callable

import networks
import pytest
import torch
import torch.nn.functional as F
from ptqx.errors import PtqxError
from ptqx.graph import capture, prepare
from torch import Tensor, nn


class Function(nn.Module):
    """A model that is one function after a convolution."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x))


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
    "max_pool2d": (nn.MaxPool2d(2), [lambda x: F.max_pool2d(x, 2)]),
    "avg_pool2d": (nn.AvgPool2d(2), [lambda x: F.avg_pool2d(x, 2)]),
    "adaptive_avg_pool2d": (
        nn.AdaptiveAvgPool2d(2),
        [
            lambda x: F.adaptive_avg_pool2d(x, (1, 1)),
            lambda x: x.mean((2, 3)),
            lambda x: x.mean([-1, -2], True),
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
        [lambda x: x * x, lambda x: x * x.mean((2, 3), keepdim=True), lambda x: x.mean((2, 3), True) * x],
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
    "pad": (nn.ZeroPad2d((1, 2, 0, 1)), [lambda x: F.pad(x, (1, 2, 0, 1))]),
    "channel pad": (None, [lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 6))]),
    "upsample_nearest2d": (nn.Upsample(scale_factor=2), [lambda x: F.interpolate(x, scale_factor=3.0)]),
    "reshape": (
        None,
        [
            lambda x: x * x.mean((2, 3)).view(x.size(0), 4, 1, 1),
            lambda x: x * x.mean((2, 3)).unsqueeze(2).unsqueeze(3),
        ],
    ),
    "permute": (None, [lambda x: x.permute(0, 2, 3, 1), lambda x: x.transpose(2, 3)]),
    "batch_norm": (nn.BatchNorm2d(4), []),
    "scalars": (None, [lambda x: x * 0.5 + 1, lambda x: (1 - x) / 3, lambda x: 2 * x - 1]),
    "identity": (nn.Identity(), [lambda x: x.contiguous()]),
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
    graph = capture(Function(lambda x: F.softmax(x, 1)), torch.randn(1, 3, 6, 6))
    assert [(n.op, n.reason) for n in graph][-1] == ("float", "softmax has no integer form")


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


def test_capture_when_a_tuple_is_returned_says_so() -> None:
    with pytest.raises(PtqxError, match="returns 2 values"):
        capture(Function(lambda x: (x, x)), torch.randn(1, 3, 6, 6))


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
