from __future__ import annotations

import copy

import pytest
import torch
from ptqx.study.rounding import RoundedModel
from torch import nn

TYPES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])


class _Functional(nn.Module):
    """Operations that are no modules, in place and not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        y = torch.relu_(y)
        y += 0.1
        return y * 1.01 + y.mean(dim=(2, 3), keepdim=True)


@TYPES
def test_every_step_is_rounded(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = _Functional()
    x = torch.randn(2, 1, 5, 5)

    def r(t: torch.Tensor) -> torch.Tensor:
        return t.to(dtype).float()

    with torch.no_grad():
        y = r(nn.functional.conv2d(r(x), r(model.conv.weight), r(model.conv.bias)))
        y = r(torch.relu(y))
        y = r(y + 0.1)
        expected = r(r(y * 1.01) + r(y.mean(dim=(2, 3), keepdim=True)))
        assert torch.equal(RoundedModel(model, dtype)(x), expected)


@TYPES
def test_the_model_itself_is_unchanged(dtype: torch.dtype, small_cnn: nn.Module) -> None:
    state = copy.deepcopy(small_cnn.state_dict())
    RoundedModel(small_cnn, dtype)(torch.randn(2, 1, 8, 8))
    assert all(torch.equal(value, state[key]) for key, value in small_cnn.state_dict().items())


def test_values_beyond_float16_become_infinite() -> None:
    double = nn.Linear(1, 1, bias=False)
    nn.init.constant_(double.weight, 2.0)
    x = torch.tensor([[60000.0]])
    assert RoundedModel(double, torch.float16)(x).isinf().all()
    assert RoundedModel(double, torch.bfloat16)(x).isfinite().all()
