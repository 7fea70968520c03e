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


def engine_describe(program: torch.Tensor) -> str:
    """One line for each step that `engine_run` takes: name, operation, shapes, kernel, multiplications."""
    return _C.engine_describe(program)
