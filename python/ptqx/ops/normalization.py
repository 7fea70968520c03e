"""Layer normalization between layers of codes."""

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
