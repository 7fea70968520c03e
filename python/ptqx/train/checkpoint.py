"""The checkpoint of a run: written after every epoch and when a signal asks to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import PtqxError
from ..files import atomic_write, read_pickle

CHECKPOINT = "checkpoint.pt"
VERSION = 1


def write_checkpoint(path: Path, identity: dict[str, Any], state: dict[str, Any]) -> None:
    """Write the state of the run that `identity` describes."""
    with atomic_write(path) as partial:
        torch.save({"version": VERSION, "identity": identity, **state}, partial)


def read_checkpoint(path: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """The state that `write_checkpoint` wrote.

    Raises:
        PtqxError: not such a file, or of another run: every difference is named.
    """
    state = read_pickle(path)
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise PtqxError(f"{path} is not a checkpoint of this version of ptqx; --no-resume starts anew")
    saved = dict(state.get("identity") or {})
    differing = [key for key in sorted(saved.keys() | identity.keys()) if saved.get(key) != identity.get(key)]
    if differing:
        parts = ", ".join(f"{key} {saved.get(key)} (now {identity.get(key)})" for key in differing)
        raise PtqxError(
            f"{path} is of another run: {parts}; give the same options, another folder, or --no-resume"
        )
    return state


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Of torch's generators, on the CPU and on `device`."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Take over what `random_state` gave."""
    torch.set_rng_state(state["cpu"].clone())
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].clone(), device)
