"""A tested claim: a statistic with its interval, and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from .results import Results

SUPPORTED, NOT_SUPPORTED, UNDECIDED = "supported", "not supported", "undecided"


@dataclass(frozen=True)
class Verdict:
    """claim: in words. statistic: what was measured, in words. value, low, high: of it, with its interval;
    None where there is none. unit: of these. verdict: "supported", "not supported" or "undecided".
    note: what else the data says."""

    claim: str
    statistic: str
    value: float | None
    low: float | None
    high: float | None
    unit: str
    verdict: str
    note: str = ""


Claim = Callable[[Results], Iterable[Verdict]]
CLAIMS: list[Claim] = []


def claim(test: Claim) -> Claim:
    """Decorator: a test made of every study's results; it yields nothing where the data is lacking."""
    CLAIMS.append(test)
    return test


def verdicts(results: Results) -> list[dict[str, Any]]:
    """All claims that the study has data for."""
    from . import claims, observations  # noqa: F401  (registers them)

    return [asdict(verdict) for test in CLAIMS for verdict in test(results)]


def judged(low: float, high: float, above: float = -math.inf, below: float = math.inf) -> str:
    """Supported if the whole interval lies in (above, below), not supported if none of it does.

    >>> judged(0.1, 0.4, below=1.0), judged(1.2, 1.4, below=1.0), judged(0.8, 1.4, below=1.0)
    ('supported', 'not supported', 'undecided')
    """
    if above < low and high < below:
        return SUPPORTED
    if high <= above or low >= below:
        return NOT_SUPPORTED
    return UNDECIDED


def within(
    claim: str,
    statistic: str,
    value: float,
    interval: Iterable[float],
    unit: str,
    *,
    above: float = -math.inf,
    below: float = math.inf,
    note: str = "",
) -> Iterator[Verdict]:
    """The verdict on a claim that a number lies between `above` and `below`."""
    low, high = interval
    yield Verdict(claim, statistic, value, low, high, unit, judged(low, high, above, below), note)
