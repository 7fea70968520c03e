"""ptqx itself: the engine, the integer graph operator by operator, and that graph through torch.compile."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from ... import graph
from .memory import engine_memory
from .registry import Load, Network, Session, register_engine


@functools.lru_cache(maxsize=4)
def quantized(network: Network, recipe: str) -> graph.IntegerModel:
    """The network in integers, made once."""
    return graph.quantize(network.model, network.calibration, recipe)


@functools.lru_cache(maxsize=4)
def compiled(network: Network, recipe: str) -> graph.Engine:
    """The network as one operator, made once."""
    return graph.compile(quantized(network, recipe), network.calibration[0][:1])


def _engine(network: Network, recipe: str) -> Load:
    module = compiled(network, recipe)

    def load(batch: Tensor, threads: int) -> Session:
        return Session(
            lambda: module(batch), memory=lambda: engine_memory(module.program, len(batch), threads)
        )

    return load


@register_engine("ptqx", "int8")
def int8(network: Network) -> Load:
    """Recipe int8, run by the engine."""
    return _engine(network, "int8")


@register_engine("ptqx-tuned", "int8")
def tuned(network: Network) -> Load:
    """Recipe int8, run by the engine, tuned for the batch size and the number of threads."""
    model = quantized(network, "int8")

    def load(batch: Tensor, threads: int) -> Session:
        module = graph.compile(model, batch, tune=True)
        return Session(lambda: module(batch))

    return load


@register_engine("ptqx-int4", "int4")
def int4(network: Network) -> Load:
    """Recipe int4, 4-bit weights and 8-bit activations, run by the engine."""
    return _engine(network, "int4")


@register_engine("ptqx-eager", "int8")
def eager(network: Network) -> Load:
    """Recipe int8, the integer graph operator by operator."""
    model = quantized(network, "int8")
    return lambda batch, threads: Session(lambda: model(batch))


@register_engine("ptqx-compile", "int8")
def through_torch_compile(network: Network) -> Load:
    """Recipe int8, the integer graph through torch.compile."""
    model = quantized(network, "int8")

    def load(batch: Tensor, threads: int) -> Session:
        module: Any = torch.compile(model, dynamic=False)
        return Session(lambda: module(batch))

    return load
