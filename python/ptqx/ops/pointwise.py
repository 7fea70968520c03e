"""Sums, products, concatenation and tables of codes; functions of real values."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .compiled import operators


def add(
    a: torch.Tensor,
    a_scale: torch.Tensor,
    a_zero_point: torch.Tensor,
    b: torch.Tensor,
    b_scale: torch.Tensor,
    b_zero_point: torch.Tensor,
    output_scale: torch.Tensor,
    output_zero_point: torch.Tensor,
    qmin: int,
    qmax: int,
    activation: str = "none",
    activation_args: Sequence[float] = (),
) -> torch.Tensor:
    """Sum of two tensors of codes, each with its own scale; shapes broadcast.

    `t = float32(a - a_zero_point) * (a_scale / output_scale) + float32(b - b_zero_point) * (b_scale /
    output_scale)`, then `clamp(round(activation(t)) + output_zero_point, qmin, qmax)`; activations as in
    `conv2d`, prelu excepted.

    >>> one, zero = torch.ones(1), torch.zeros(1, dtype=torch.int32)
    >>> x = torch.tensor([1, 2, 3], dtype=torch.uint8)
    >>> add(x, one, zero, x, 0.5 * one, zero, 0.5 * one, zero, 0, 255)
    tensor([3, 6, 9], dtype=torch.uint8)
    """
    return operators.add(
        a,
        a_scale,
        a_zero_point,
        b,
        b_scale,
        b_zero_point,
        output_scale,
        output_zero_point,
        qmin,
        qmax,
        activation,
        activation_args,
    )


def mul(
    a: torch.Tensor,
    a_scale: torch.Tensor,
    a_zero_point: torch.Tensor,
    b: torch.Tensor,
    b_scale: torch.Tensor,
    b_zero_point: torch.Tensor,
    output_scale: torch.Tensor,
    output_zero_point: torch.Tensor,
    qmin: int,
    qmax: int,
    activation: str = "none",
    activation_args: Sequence[float] = (),
) -> torch.Tensor:
    """Product of two tensors of codes; shapes broadcast, fastest for [N, C, 1, 1] against images.

    `t = float32((a - a_zero_point) * (b - b_zero_point)) * ((a_scale * b_scale) / output_scale)`, then as
    `add`.

    >>> one, zero = torch.ones(1), torch.zeros(1, dtype=torch.int32)
    >>> x = torch.tensor([1, 2, 3], dtype=torch.uint8)
    >>> mul(x, one, zero, x, 0.5 * one, zero, 0.5 * one, zero, 0, 255)
    tensor([1, 4, 9], dtype=torch.uint8)
    """
    return operators.mul(
        a,
        a_scale,
        a_zero_point,
        b,
        b_scale,
        b_zero_point,
        output_scale,
        output_zero_point,
        qmin,
        qmax,
        activation,
        activation_args,
    )


def cat(inputs: Sequence[torch.Tensor], dim: int = 1) -> torch.Tensor:
    """`torch.cat` of codes that share scale, zero point and type.

    >>> x = torch.zeros(2, 1, dtype=torch.uint8)
    >>> cat([x, x + 1])
    tensor([[0, 1],
            [0, 1]], dtype=torch.uint8)
    """
    if not inputs:  # no tensor, no kernel to ask
        raise ValueError("inputs must have at least one tensor, got none")
    return operators.cat(inputs, dim)


def lookup(input: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """`table[input]` for uint8 codes, `table[input + 128]` for int8 ones: any function of one code.

    `table` has 256 codes, and the output their type.

    >>> squares = (torch.arange(256) ** 2 % 256).to(torch.uint8)
    >>> lookup(torch.tensor([0, 3, 17], dtype=torch.uint8), squares)
    tensor([ 0,  9, 33], dtype=torch.uint8)
    """
    return operators.lookup(input, table)


def activation(input: torch.Tensor, function: str) -> torch.Tensor:
    """A function of real values, float32, computed in float64 by one written exp and rounded once.

    With `e = exp(-|x|)`: "sigmoid" is `1 / (1 + e)`, times e for negative x; "silu" is `x * sigmoid(x)`;
    "tanh" is `(1 - e^2) / (1 + e^2)` with the sign of x; "gelu" is `x * Phi(x)` and "gelu_tanh" is
    `x * sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3))` (Hendrycks and Gimpel, arXiv:1606.08415); "square" is
    `x * x`. Results are the same bits everywhere, and within one unit in the last place of exact ones.
    A NaN stays one.

    Args:
        input: real values of any shape and float type.

    >>> activation(torch.tensor([0.0, 100.0]), "sigmoid")
    tensor([0.5000, 1.0000])
    >>> activation(torch.tensor([0.0, -100.0]), "tanh")
    tensor([ 0., -1.])
    """
    return operators.activation(input, function)
