"""PyTorch's own float arithmetic, compiled, with weights frozen as for inference."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import formats, machine
from .memory import float_memory
from .registry import Load, Network, Session, Unavailable, register_engine


def _compiled(model: nn.Module) -> Load:
    def load(batch: Tensor, threads: int) -> Session:
        module, detail = formats.compiled(model, batch)

        def run() -> Tensor:
            logits: Tensor = module(batch)
            return logits

        return Session(run, detail, lambda: float_memory(model, run))

    return load


@register_engine("torch-fp32", "fp32")
def fp32(network: Network) -> Load:
    """float32 through torch.compile."""
    return _compiled(network.model)


@register_engine("torch-bf16", "bf16")
def bf16(network: Network) -> Load:
    """bfloat16 through torch.compile, where the CPU computes in it."""
    if "bf16" not in machine.native_float_types():
        raise Unavailable("no bf16 arithmetic on this CPU")
    return _compiled(formats.InType(network.model, torch.bfloat16))
