"""Tuning: which way to compute a layer is the fastest on this machine, measured once and remembered."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import PtqxError
from ..files import write_text

SECONDS = 2.0  # of measuring, at most, if nothing is known yet; large networks take nine rounds at least
VERSION = 1


@dataclass(frozen=True)
class TunedStep:
    """The strategy of one step of the engine when it runs `samples` samples by `threads` threads."""

    name: str
    samples: int
    threads: int
    strategy: str

    @property
    def place(self) -> tuple[str, int, int]:
        return self.name, self.samples, self.threads

    def __str__(self) -> str:
        return f"{self.strategy} ({self.samples} samples, {self.threads} threads)"


@dataclass(frozen=True)
class Tuning:
    """What was measured to be the fastest. On another machine it is of no account.

    Attributes:
        machine: processor, instruction set and version of ptqx that they were measured with.
        steps: the choices.
    """

    machine: str
    steps: tuple[TunedStep, ...]

    def merged_over(self, earlier: Tuning | None) -> Tuning:
        """These and the earlier ones for other numbers of samples and threads, if of the same machine."""
        if earlier is None or earlier.machine != self.machine:
            return self
        mine = {(step.samples, step.threads) for step in self.steps}
        kept = (step for step in earlier.steps if (step.samples, step.threads) not in mine)
        return Tuning(self.machine, (*kept, *self.steps))

    def to_dict(self) -> dict[str, Any]:
        return {"machine": self.machine, "steps": [asdict(step) for step in self.steps]}


def tuning_from_dict(raw: Any) -> Tuning:
    """
    Raises:
        PtqxError: not what `Tuning.to_dict` makes.
    """
    types = {"name": str, "samples": int, "threads": int, "strategy": str}

    def step(entry: Any) -> TunedStep:
        if not isinstance(entry, dict) or {key: type(value) for key, value in entry.items()} != types:
            raise PtqxError(f"tuning: expected steps of {', '.join(types)}, got {entry!r}")
        return TunedStep(**entry)

    if not isinstance(raw, dict) or set(raw) != {"machine", "steps"}:
        raise PtqxError("tuning: expected an object of machine and steps")
    if not isinstance(raw["machine"], str) or not isinstance(raw["steps"], list):
        raise PtqxError("tuning: machine must be a string and steps a list")
    return Tuning(raw["machine"], tuple(step(entry) for entry in raw["steps"]))


def cache_file() -> Path:
    """Where choices are remembered: ptqx/tuning.json in $XDG_CACHE_HOME, which is ~/.cache by default."""
    folder = os.environ.get("XDG_CACHE_HOME")
    return (Path(folder) if folder else Path.home() / ".cache") / "ptqx" / "tuning.json"


def tune(program: Tensor, batch: int) -> Tuning | None:
    """The fastest strategies of a .ptqx file's steps for a batch size, torch's threads and this machine; None
    if they are the usual ones.

    What `cache_file` knows of a layer of the same shapes is taken from there; the rest is measured, in rounds
    that let all strategies take turns, and added to it. The usual strategy stays unless another is clearly
    faster: at most 0.97 of its time in the median round, and faster in three rounds of four, twice.
    """
    from .. import _C

    machine = _C.tuning_machine()
    steps = _C.engine_tunable_steps(program, batch, torch.get_num_threads())
    known = _read(machine)
    unknown = {_layer(step): step for step in steps if known.get(_layer(step)) not in step["strategies"]}
    if unknown:
        chosen = _C.engine_tune(program, list(unknown.values()), SECONDS)
        strategies = {TunedStep(**entry).place: entry["strategy"] for entry in chosen}
        found = {layer: strategies[_place(step)] for layer, step in unknown.items()}
        _remember(machine, found)
        known |= found
    if all(known[_layer(step)] == step["strategies"][0] for step in steps):
        return None
    return Tuning(machine, tuple(TunedStep(*_place(step), known[_layer(step)]) for step in steps))


def _place(step: dict[str, Any]) -> tuple[str, int, int]:
    return step["name"], step["samples"], step["threads"]


def _layer(step: dict[str, Any]) -> str:
    return f"{step['layer']}; {step['samples']} samples, {step['threads']} threads"


def _read(machine: str) -> dict[str, str]:
    """What is known of this machine's layers."""
    return dict(_read_file().get(machine, {}))


def _read_file() -> dict[str, dict[str, str]]:
    path = cache_file()
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        machines = document["machines"]
        if document["version"] != VERSION or not all(
            isinstance(value, str) for layers in machines.values() for value in layers.values()
        ):
            raise ValueError("unknown content")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        warnings.warn(f"{path} can't be used and is made anew: {error}", stacklevel=2)
        return {}
    return dict(machines)


def _remember(machine: str, found: dict[str, str]) -> None:
    """Add to the file what other processes may have added to in the meantime."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said when it was read
        machines = _read_file()
    machines[machine] = {**machines.get(machine, {}), **found}
    try:
        write_text(
            cache_file(), json.dumps({"version": VERSION, "machines": machines}, indent=1, sort_keys=True)
        )
    except (PtqxError, OSError) as error:
        warnings.warn(f"choices are not remembered: {error}", stacklevel=2)
