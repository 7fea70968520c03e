"""The timing harness, on engines that move a clock by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from ptqx.errors import PtqxError
from ptqx.study.timing import MIN_ROUNDS, interleaved, thread_count


class FakeClock:
    """Time that passes only when an engine runs; `log` says which one did."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def __call__(self) -> float:
        return self.now

    def engine(self, name: str, *seconds: float) -> Callable[[], None]:
        calls = iter(range(10**9))

        def run() -> None:
            self.now += seconds[next(calls) % len(seconds)]
            self.log.append(name)

        return run


def test_median_and_quartiles_are_those_of_the_calls() -> None:
    clock = FakeClock()
    result = interleaved({"a": clock.engine("a", 0.2)}, seconds=2.0, clock=clock)["a"]
    assert result.median_ms == pytest.approx(200.0)
    assert result.lower_quartile_ms == pytest.approx(200.0)
    assert result.rounds == 10


def test_one_slow_call_does_not_move_the_median() -> None:
    clock = FakeClock()
    times = [0.1] * 9 + [5.0]
    result = interleaved({"a": clock.engine("a", *times)}, seconds=2.0, clock=clock)["a"]
    assert result.median_ms == pytest.approx(100.0)


def test_rounds_are_interleaved_and_reversed() -> None:
    clock = FakeClock()
    interleaved({"a": clock.engine("a", 1.0), "b": clock.engine("b", 1.0)}, seconds=1.0, clock=clock)
    warm_up, measured = clock.log[:4], clock.log[4:]
    assert warm_up == ["a", "a", "b", "b"]
    assert measured[:6] == ["a", "b", "b", "a", "a", "b"]
    assert len(measured) == 2 * MIN_ROUNDS


def test_fast_calls_are_repeated_until_a_sample_is_long_enough() -> None:
    clock = FakeClock()
    result = interleaved({"a": clock.engine("a", 0.001)}, seconds=0.1, clock=clock)["a"]
    assert result.median_ms == pytest.approx(1.0)
    assert len(clock.log) == 2 + 10 * result.rounds


def test_rounds_and_samples_are_as_asked() -> None:
    clock = FakeClock()
    result = interleaved({"a": clock.engine("a", 0.25)}, rounds=3, sample_seconds=1.0, clock=clock)["a"]
    assert result.rounds == 3
    assert len(clock.log) == 2 + 3 * 4


def test_calls_settle_untimed_before_each_sample() -> None:
    clock = FakeClock()
    calls = {"a": clock.engine("a", 1.0), "b": clock.engine("b", 5.0, 5.0, 9.0, 5.0)}
    result = interleaved(calls, rounds=2, settle_seconds=2.0, clock=clock)
    assert clock.log[4:] == ["a", "a", "a", "b", "b", "b", "b", "a", "a", "a"]
    assert result["b"].median_ms == pytest.approx(5000.0), "the slow call was the settling one"


def test_fewer_than_two_rounds_raise() -> None:
    with pytest.raises(PtqxError, match="rounds must be at least 2, got 1"):
        interleaved({}, rounds=1)


def test_seconds_must_be_positive() -> None:
    with pytest.raises(PtqxError, match="seconds"):
        interleaved({}, seconds=0.0)


def test_thread_count_is_put_back_also_after_an_error() -> None:
    former = torch.get_num_threads()
    with pytest.raises(RuntimeError), thread_count(1) as threads:
        assert threads == torch.get_num_threads() == 1
        raise RuntimeError
    assert torch.get_num_threads() == former


def test_thread_count_below_one_raises() -> None:
    with pytest.raises(PtqxError, match="threads must be at least 1, got 0"), thread_count(0):
        pass
