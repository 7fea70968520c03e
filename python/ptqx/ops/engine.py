"""Whole networks: `.ptqx` files as operators."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .. import _C
from .compiled import operators


def engine_run(input: torch.Tensor, program: torch.Tensor, output_shape: Sequence[int]) -> torch.Tensor:
    """Runs the network of a .ptqx file: `program` holds its bytes, uint8 [bytes].

    `input` is float32 [N, ...] and finite; the result float32 [N] + `output_shape`, the shape that the file
    says. The plan is made on the first call and kept for the next ones. ValueError if the file is unusable.

    >>> engine_run(torch.zeros(1, 4), torch.zeros(8, dtype=torch.uint8), [2])
    Traceback (most recent call last):
    ...
    ValueError: program: ... is not a .ptqx file: its header is not a JSON object
    """
    return operators.engine_run(input, program, output_shape)


def engine_run_outputs(
    input: torch.Tensor, program: torch.Tensor, output_ranks: Sequence[int], output_extents: Sequence[int]
) -> list[torch.Tensor]:
    """The same for a network that returns several tensors, in their order in what it returns.

    `output_extents` are the extents of all their shapes, without the batch, one shape after another, of which
    `output_ranks` says how many extents each has: [3, 1] and [8, 16, 16, 10] of [8, 16, 16] and [10].

    >>> engine_run_outputs(torch.zeros(1, 4), torch.zeros(8, dtype=torch.uint8), [1, 1], [2])
    Traceback (most recent call last):
    ...
    ValueError: output_extents must have as many extents as output_ranks ask for, got [2]
    """
    return operators.engine_run_outputs(input, program, output_ranks, output_extents)


def engine_describe(program: torch.Tensor) -> str:
    """One line for each step that `engine_run` takes: name, operation, shapes, kernel, multiplications."""
    return _C.engine_describe(program)
