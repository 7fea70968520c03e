"""Layer and group normalization and softmax: real values, or their codes."""

from __future__ import annotations

import torch

from .compiled import operators


def layer_norm(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float = 1e-5,
    output_scale: torch.Tensor | None = None,
    output_zero_point: torch.Tensor | None = None,
    qmin: int = 0,
    qmax: int = 255,
) -> torch.Tensor:
    """Layer normalization over the channels of each pixel (Ba, Kiros, Hinton, arXiv:1607.06450), to codes.

    `t = ((input - mean) * inverse_deviation) * weight + bias` in float32, with
    `mean = sum(input) / C` and `inverse_deviation = 1 / sqrt(max(sum(input^2) / C - mean^2, 0) + eps)` in
    float64, rounded to float32. The sums are those of `moments`: results are the same bits everywhere.
    Then `clamp(round(t / output_scale) + output_zero_point, qmin, qmax)`, or t itself, float32, without
    `output_scale` and `output_zero_point`.

    Args:
        input: real values [N, C] or [N, C, H, W], of any float type.
        weight, bias: float32 [C].
        eps: positive.

    >>> x = torch.tensor([[1.0, 3.0], [10.0, 30.0]])
    >>> layer_norm(x, torch.ones(2), torch.zeros(2), 1e-12)
    tensor([[-1.,  1.],
            [-1.,  1.]])
    >>> scale, zero_point = torch.tensor([0.5]), torch.tensor([10], dtype=torch.int32)
    >>> layer_norm(x, torch.ones(2), torch.zeros(2), 1e-12, scale, zero_point)
    tensor([[ 8, 12],
            [ 8, 12]], dtype=torch.uint8)
    """
    return operators.layer_norm(input, weight, bias, eps, output_scale, output_zero_point, qmin, qmax)


def group_norm(
    input: torch.Tensor,
    groups: int,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float = 1e-5,
    output_scale: torch.Tensor | None = None,
    output_zero_point: torch.Tensor | None = None,
    qmin: int = 0,
    qmax: int = 255,
) -> torch.Tensor:
    """Group normalization (Wu, He, arXiv:1803.08494) over the pixels and channels of each group, to codes.

    As `layer_norm`, with the mean and the deviation of a group of `C / groups` channels over the whole image;
    with `groups == C` it is instance normalization (Ulyanov et al., arXiv:1607.08022). The sums, in float64,
    are those of the pixels of each row in turn, of the rows in turn and of the channels in turn: results are
    the same bits everywhere.

    Args:
        input: real values [N, C, H, W], of any float type.
        groups: divides C.
        weight, bias: float32 [C].
        eps: positive.

    >>> x = torch.tensor([1.0, 3.0, 10.0, 30.0]).reshape(1, 4, 1, 1)
    >>> group_norm(x, 2, torch.ones(4), torch.zeros(4), 1e-12).flatten()
    tensor([-1.,  1., -1.,  1.])
    >>> scale, zero_point = torch.tensor([0.5]), torch.tensor([10], dtype=torch.int32)
    >>> group_norm(x, 2, torch.ones(4), torch.zeros(4), 1e-12, scale, zero_point).flatten()
    tensor([ 8, 12,  8, 12], dtype=torch.uint8)
    """
    return operators.group_norm(input, groups, weight, bias, eps, output_scale, output_zero_point, qmin, qmax)


def softmax(
    input: torch.Tensor,
    log: bool = False,
    output_scale: torch.Tensor | None = None,
    output_zero_point: torch.Tensor | None = None,
    qmin: int = 0,
    qmax: int = 255,
) -> torch.Tensor:
    """Softmax over the channels of each pixel, or its logarithm, in float64, by one written exp and ln.

    `t = exp(input - max) / sum`, or `input - max - ln(sum)`, with `sum = sum(exp(input - max))`, rounded to
    float32. The sum is in 16 lanes, as that of `moments`: results are the same bits everywhere, and within
    one unit in the last place of PyTorch's. Then `clamp(round(t / output_scale) + output_zero_point, qmin,
    qmax)`, or t itself without `output_scale` and `output_zero_point`.

    Args:
        input: finite numbers [N, C] or [N, C, H, W], of any float type.
        log: real values only.

    >>> softmax(torch.tensor([[0.0, 0.0], [100.0, -100.0]]))
    tensor([[0.5000, 0.5000],
            [1.0000, 0.0000]])
    >>> softmax(torch.tensor([[0.0, 0.0]]), log=True)
    tensor([[-0.6931, -0.6931]])
    >>> softmax(torch.tensor([[0.0, 0.0]]), False, torch.tensor([1 / 256]), torch.zeros(1, dtype=torch.int32))
    tensor([[128, 128]], dtype=torch.uint8)
    """
    return operators.softmax(input, log, output_scale, output_zero_point, qmin, qmax)
