"""The engine's steps one at a time, as a share of what the machine can do."""

from __future__ import annotations

from typing import Any

from ... import _C
from .ours import compiled
from .registry import Network

ROUNDS = 15


def step_rates(network: Network, batch: int, ceiling: float) -> list[dict[str, Any]]:
    """Time of each step of recipe int8 on one thread, in its place in the network.

    Each entry has the keys `step`, `operation`, `kernel`, `strategy`, `seconds` a batch (median),
    `time_share` of all steps, and for convolutions and linear layers `nominal_macs` and `useful_macs` a
    batch (the latter without taps on padding) and both as a share of what `ceiling`, multiply-accumulates
    per second of one thread, allows: `nominal_share`, `useful_share`; these four are None for other
    steps. Strategy "winograd" makes fewer multiplications than it is counted with, so that its shares can
    be above 1.
    """
    steps = _C.engine_profile(compiled(network, "int8").program, batch, ROUNDS)
    total = sum(step["seconds"] for step in steps)
    return [
        {
            "model": network.name,
            "batch": batch,
            "step": step["name"],
            "operation": step["op"],
            "kernel": step["kernel"],
            "strategy": step["strategy"],
            "seconds": step["seconds"],
            "time_share": step["seconds"] / total,
            "nominal_macs": batch * step["macs"] if step["macs"] else None,
            "useful_macs": batch * step["useful_macs"] if step["macs"] else None,
            "nominal_share": batch * step["macs"] / step["seconds"] / ceiling if step["macs"] else None,
            "useful_share": batch * step["useful_macs"] / step["seconds"] / ceiling if step["macs"] else None,
        }
        for step in steps
    ]
