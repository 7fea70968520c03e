"""What users give as a model or as batches: taken as it is meant, or refused with what to do."""

from __future__ import annotations

from typing import Any

import ptqx
import pytest
import torch
from ptqx.errors import PtqxError
from ptqx.graph import calibrate, prepare
from torch import Tensor, nn


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()


X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "wrapped",
    [
        nn.DataParallel(network()),
        torch.compile(network()),
        torch.compile(nn.DataParallel(network())),
        network().double(),
        torch.fx.symbolic_trace(network()),
        network().to(memory_format=torch.channels_last),  # type: ignore[call-overload]
    ],
    ids=["data-parallel", "compiled", "both", "float64", "fx", "channels-last"],
)
def test_a_network_in_another_form_gives_the_same_integers(wrapped: Any) -> None:
    expected = ptqx.quantize(network(), [X])(X)
    assert torch.equal(ptqx.quantize(wrapped, [X])(X), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_quantized_from_float32(dtype: torch.dtype) -> None:
    half = network().to(dtype)
    before = {name: t.clone() for name, t in half.state_dict().items()}
    integer = ptqx.quantize(half, [X])
    assert torch.equal(integer(X), ptqx.quantize(network().to(dtype).float(), [X])(X))
    assert all(
        t.dtype == before[name].dtype and torch.equal(t, before[name])
        for name, t in half.state_dict().items()
    )


class Variadic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, *images: Tensor) -> Tensor:
        return self.network(images[0])


def hooked() -> nn.Module:
    model = network()
    model[0].register_forward_hook(lambda module, inputs, output: 2 * output)
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (torch.jit.script(network()), "TorchScript modules hold no Python code"),
        (network().to("meta"), "0.weight is on the device meta"),
        (nn.Sequential(nn.LazyConv2d(4, 3)), "0.weight has no shape yet; run the model once"),
        (Variadic(), r"Variadic.forward takes \*images"),
        (hooked(), "have hooks"),
        (lambda x: x, "expected an nn.Module, got function"),
    ],
    ids=["script", "meta", "lazy", "variadic", "hook", "function"],
)
def test_what_can_not_be_captured_says_why(model: Any, message: str) -> None:
    with pytest.raises(PtqxError, match=message):
        prepare(model, "int8", X)


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (X, r"got one tensor; \[tensor\] is a loader"),
        (None, "expected batches x or \\(x, y\\), got NoneType"),
        (3, "got int"),
        ([{"x": X}], "got dict"),
        ([], "the calibration set is empty"),
        ([X.byte()], "got torch.uint8"),
    ],
    ids=["tensor", "none", "number", "dict", "empty", "integers"],
)
def test_what_is_no_loader_says_what_one_is(loader: Any, message: str) -> None:
    with pytest.raises(PtqxError, match=f"loader: .*{message}"):
        ptqx.quantize(network(), loader)
    if loader != []:
        with pytest.raises(PtqxError, match=f"loader: .*{message}"):
            calibrate(prepare(network(), "int8", X), loader)


def test_an_integer_model_takes_a_tensor() -> None:
    integer = ptqx.quantize(network(), [X])
    with pytest.raises(PtqxError, match="input: expected a tensor, got list"):
        integer([X])
