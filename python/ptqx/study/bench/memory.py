"""What a network holds in memory while it runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from ... import _C
from .registry import Memory


def engine_memory(program: Tensor, batch: int, threads: int) -> Memory:
    """Of a run of the engine: what is in memory of the .ptqx file it was made from, the system's file cache
    included; packed weights and plan; activations."""
    memory = _C.engine_memory(program, batch, threads)
    return Memory(memory["program"], memory["packed"], memory["arena"])


def float_memory(model: nn.Module, run: Callable[[], Any]) -> Memory:
    """Of a run of the compiled float model: its weights once, and the most that PyTorch's allocator
    held of anything else at one time during the run."""
    weights = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    return Memory(0, weights, peak_allocation(run))


@torch.no_grad()
def peak_allocation(run: Callable[[], Any]) -> int:
    """The most bytes that one call holds at a time, of those that it allocates."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's greetings are no output of ours
    run()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        result = run()
    assert profiled.profiler is not None and profiled.profiler.kineto_results is not None
    events = [e for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    del result
    return peak
