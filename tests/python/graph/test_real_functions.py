"""Networks that end in functions of real values run in the engine."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from ptqx.errors import PtqxError
from ptqx.graph import calibrate, compile, convert, prepare
from torch import Tensor, nn


@pytest.mark.parametrize(
    "end",
    [
        nn.Softmax(1),
        nn.LogSoftmax(dim=-1),
        lambda x: F.log_softmax(x, dim=1),
        lambda x: torch.softmax(x, 1),
        lambda x: x.log_softmax(1) * 2,
    ],
    ids=["module", "log-module", "log-function", "function", "inside"],
)
def test_softmax_of_features_runs_in_the_engine(end: Callable[[Tensor], Tensor]) -> None:
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.end = nn.Linear(36, 10), end

        def forward(self, x: Tensor) -> Tensor:
            return self.end(self.fc(x.flatten(1)))

    x = torch.randn(16, 4, 3, 3)
    model = Classifier().eval()
    integer = convert(calibrate(prepare(model, "int8", x), [x]))
    assert "float" not in [node.op for node in integer.graph]
    with torch.no_grad():
        torch.testing.assert_close(integer(x), model(x), rtol=0.05, atol=0.05)
    assert torch.equal(torch.compile(integer, fullgraph=True)(x), integer(x))
    assert torch.equal(compile(integer, x)(x), integer(x))


@pytest.mark.parametrize(
    "end",
    [
        nn.Sigmoid(),
        nn.Tanh(),
        F.silu,
        nn.GELU(),
        nn.GELU("tanh"),
        lambda x: F.gelu(x).square(),
        lambda x: (torch.tanh(x) + 1) / 2,
        lambda x: 1 - 255 * x.sigmoid(),
    ],
    ids=["sigmoid", "tanh", "silu", "gelu", "gelu-tanh", "square", "images", "arithmetic"],
)
@pytest.mark.parametrize("how", ["int8", "int8-dynamic"])
def test_functions_of_real_values_run_in_the_engine(end: Callable[[Tensor], Tensor], how: str) -> None:
    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last, self.end = nn.Conv2d(4, 8, 3), nn.Conv2d(8, 3, 1), end

        def forward(self, x: Tensor) -> Tensor:
            return self.end(self.last(F.silu(self.first(x))))

    x = torch.randn(16, 4, 6, 6)
    model = Decoder().eval()
    integer = convert(calibrate(prepare(model, how, x), [x]))
    assert "float" not in [node.op for node in integer.graph]
    with torch.no_grad():
        assert (integer(x) - model(x)).square().mean() < 1e-3 * model(x).square().mean()
    torch.compiler.reset()  # one function is compiled a limited number of times
    assert torch.equal(torch.compile(integer, fullgraph=True)(x), integer(x))
    assert torch.equal(compile(integer, x)(x), integer(x))


def test_functions_that_the_engine_has_no_form_for_are_named() -> None:
    x = torch.randn(4, 3, 6, 6)
    integer = convert(calibrate(prepare(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ELU()), "int8", x), [x]))
    with pytest.raises(PtqxError, match=r"node '1'.*elu"):
        compile(integer, x)
