"""The convolutions of small images that training computes as matrix products."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from ptqx.train import convolution
from ptqx.train.convolution import SmallConvolutions
from torch import Tensor, nn


def _results(layer: nn.Conv2d, x: Tensor, g: Tensor, products: bool) -> list[Tensor]:
    """Output and gradients under bfloat16 autocast."""
    x = x.clone().requires_grad_()
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        if products:
            with SmallConvolutions():
                y = layer(x)
        else:
            y = layer(x)
    y.mul_(1.0)  # as simulated layers do: not allowed on a view that a Function returned
    y.backward(g.to(y.dtype))
    found = [y.detach(), x.grad, *(parameter.grad for parameter in layer.parameters())]
    return [t for t in found if t is not None]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Grows by one with every convolution that became a product."""
    made: list[Any] = []
    product = convolution._product

    def counted(*args: Any, **kwargs: Any) -> Tensor:
        made.append(args)
        return product(*args, **kwargs)

    monkeypatch.setattr(convolution, "_product", counted)
    return made


@pytest.mark.parametrize(
    ("kernel", "padding", "size", "bias"),
    [
        (3, 1, (4, 4), True),
        (3, 1, (2, 2), False),
        (3, 0, (5, 4), True),
        ((3, 1), (1, 0), (4, 3), True),
        (2, 1, (3, 3), False),
    ],
)
def test_same_as_the_convolution(calls: list[Any], kernel: Any, padding: Any, size: Any, bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(128, 24, kernel, padding=padding, bias=bias)
    x = torch.randn(3, 128, *size).to(memory_format=torch.channels_last)
    g = torch.randn_like(layer(x))
    for name, expected, got in zip(
        ("y", "x", "weight", "bias"), _results(layer, x, g, False), _results(layer, x, g, True), strict=False
    ):
        assert got.shape == expected.shape, name
        assert (got - expected).norm() < 0.01 * expected.norm(), name
    assert len(calls) == 1


def test_contiguous_and_empty_gradients(calls: list[Any]) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 128, 4, 4), torch.randn(8, 128, 3, 3, requires_grad=True)
    with SmallConvolutions(), torch.autocast("cpu", torch.bfloat16):
        y = F.conv2d(x, weight, padding=1)
    y.sum().backward()
    assert len(calls) == 1
    assert weight.grad is not None and weight.grad.dtype == torch.float32
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = F.conv2d(x, weight, padding=1)
    assert (y - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize(
    ("channels", "size", "options"),
    [
        (128, 8, {}),  # too large an image
        (64, 4, {}),  # too few channels
        (128, 4, {"stride": 2}),
        (128, 4, {"dilation": 2, "padding": 2}),
        (256, 4, {"groups": 2}),
        (128, 4, {"kernel_size": 1, "padding": 0}),
        (128, 4, {"padding": "same"}),
        (128, 2, {"padding": 3}),
    ],
)
def test_others_are_left_alone(calls: list[Any], channels: int, size: int, options: dict[str, Any]) -> None:
    layer = nn.Conv2d(channels, 8, **{"kernel_size": 3, "padding": 1, **options})
    x = torch.randn(2, channels, size, size)
    with torch.autocast("cpu", torch.bfloat16):
        expected = layer(x)
        with SmallConvolutions():
            assert torch.equal(layer(x), expected)
    assert not calls


def test_float32_is_left_alone(calls: list[Any]) -> None:
    layer, x = nn.Conv2d(128, 8, 3, padding=1), torch.randn(2, 128, 4, 4)
    with SmallConvolutions():
        assert torch.equal(layer(x), layer.forward(x))
    assert not calls
