"""Latency of several callables in one process, so that what disturbs one disturbs all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from ..errors import PtqxError

MIN_SAMPLE_SECONDS = 0.01  # shorter calls are repeated: the clock's own noise stays small
MIN_ROUNDS = 7


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one call: median and quartiles over the rounds."""

    median_ms: float
    lower_quartile_ms: float
    upper_quartile_ms: float
    rounds: int


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    *,
    seconds: float = 3.0,
    rounds: int | None = None,
    sample_seconds: float = MIN_SAMPLE_SECONDS,
    settle_seconds: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Latency]:
    """Time every call in rounds (a, b, c, a, b, c, ...).

    Each is called twice before, to warm up. In a round a call is repeated for about `sample_seconds`, and its
    time divided by the repetitions. Every other round goes backwards, so that no call always follows the same
    neighbour.

    Args:
        seconds: time for each call, if `rounds` does not say how many; there are at least 7 rounds.
        rounds: at least 2.
        sample_seconds: of one call in one round.
        settle_seconds: in each round a call first runs so long without being timed: threads of the call
            before it that still wait for work go to sleep, and its own wake up.
    """
    for name, value in (("seconds", seconds), ("sample_seconds", sample_seconds)):
        if not value > 0:
            raise PtqxError(f"{name} must be positive, got {value}")
    if rounds is not None and rounds < 2:
        raise PtqxError(f"rounds must be at least 2, got {rounds}")
    repeats: dict[str, int] = {}
    round_seconds = 0.0
    for name, call in calls.items():
        call()
        once = _elapsed(call, 1, clock)
        repeats[name] = max(1, round(sample_seconds / max(once, 1e-9)))
        round_seconds += settle_seconds + once * repeats[name]
    if rounds is None:
        rounds = max(MIN_ROUNDS, int(seconds * len(calls) / max(round_seconds, sample_seconds)))
    samples: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    for _ in range(rounds):
        for name in order:
            _settle(calls[name], settle_seconds, clock)
            samples[name].append(1e3 * _elapsed(calls[name], repeats[name], clock) / repeats[name])
        order.reverse()
    return {name: _summary(times) for name, times in samples.items()}


@contextmanager
def thread_count(threads: int | None) -> Iterator[int]:
    """Set torch's number of intra-operator threads, yield it, and put the former one back."""
    if threads is not None and threads < 1:
        raise PtqxError(f"threads must be at least 1, got {threads}")
    former = torch.get_num_threads()
    torch.set_num_threads(threads or former)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(former)


def _elapsed(call: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    began = clock()
    for _ in range(repeats):
        call()
    return clock() - began


def _settle(call: Callable[[], object], seconds: float, clock: Callable[[], float]) -> None:
    began = clock()
    while clock() - began < seconds:
        call()


def _summary(times: list[float]) -> Latency:
    lower, median, upper = statistics.quantiles(times, n=4, method="inclusive")
    return Latency(median, lower, upper, len(times))
