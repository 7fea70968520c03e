"""The few things data parallel training under torchrun needs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from ..errors import PtqxError

GONE = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the process group that torchrun's environment describes; without one, do nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def launched_rank() -> int:
    """This process's number under torchrun, outside of a process group, too."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def any_rank(flag: bool, device: torch.device) -> bool:
    """True on every rank if `flag` is true on one."""
    return all_sum([float(flag)], device)[0] > 0


def all_sum(values: list[float], device: torch.device) -> list[float]:
    """Element-wise sum over the ranks."""
    if world_size() == 1:
        return values
    total = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return total.tolist()


@contextmanager
def losing_nobody(remedy: str) -> Iterator[None]:
    """Where gloo finds that another process has gone, an error that says so and the remedy."""
    try:
        yield
    except RuntimeError as error:
        if world_size() == 1 or not any(sign in str(error) for sign in GONE):
            raise
        raise PtqxError(f"another process of this run ended; see what it said. {remedy}") from error


@contextmanager
def first_rank_first() -> Iterator[None]:
    """Let rank 0 run the block alone, then the others: for what it writes and they read."""
    if rank() != 0:
        dist.barrier()
    yield
    if rank() == 0 and world_size() > 1:
        dist.barrier()


def gather(value: Any) -> list[Any]:
    """The value of every rank, on every rank."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values
