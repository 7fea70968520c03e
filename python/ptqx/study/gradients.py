"""Training by several processes that send each other gradients of few bits: accuracy and bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from tqdm import tqdm

from ..errors import PtqxError
from ..train.gradients import GradientFormat
from .rows import markdown_table, signed

FLOAT32 = "32"
FORMATS = (FLOAT32, "8", "8-stochastic", "4", "4-stochastic", "1")
HEADER = ("gradient bits", "top-1 %", "against 32", "bytes a process", "times fewer")


@dataclass(frozen=True)
class GradientRow:
    """Runs with one kind of gradients.

    Attributes:
        gradients: "32", "8", "4" or "1", the middle two also with "-stochastic".
        top1: mean over the seeds, percent; difference: to float32's, percent points.
        top1_by_seed: in the order of the seeds.
        bytes_sent: gradients that every process sent in one run; float32_bytes: what they are in float32.
    """

    gradients: str
    top1: float
    difference: float
    top1_by_seed: list[float]
    bytes_sent: int
    float32_bytes: int

    @property
    def times_fewer(self) -> float:
        return self.float32_bytes / self.bytes_sent


@dataclass(frozen=True)
class GradientTable:
    """Result of `compare_gradients`."""

    rows: list[GradientRow]

    def to_markdown(self) -> str:
        lines = [
            [
                row.gradients,
                f"{row.top1:.2f}",
                "-" if row.gradients == FLOAT32 else signed(row.difference),
                f"{row.bytes_sent:,}",
                f"{row.times_fewer:.1f}",
            ]
            for row in self.rows
        ]
        return markdown_table(HEADER, lines, frozenset(HEADER) - {"gradient bits"})

    def to_dicts(self) -> list[dict[str, Any]]:
        return [asdict(row) | {"times_fewer": row.times_fewer} for row in self.rows]


def compare_gradients(
    model: str,
    dataset: str,
    out: str | os.PathLike[str],
    *,
    formats: Sequence[str] = FORMATS,
    processes: int = 2,
    seeds: Sequence[int] = (0,),
    options: Sequence[str] = (),
    progress: bool = True,
) -> GradientTable:
    """Train `model` under torchrun once for every format and seed; all else is the same.

    Each run is `ptqx train` with its folder in `out`, so what was finished is not trained again, and what was
    stopped goes on.

    Args:
        formats: among `FORMATS`; float32, "32", is always one of them.
        processes: of a run; each has its share of every batch.
        options: further options of `ptqx train`, such as ("--epochs", "8").

    Raises:
        PtqxError: an unknown format, one process, or what a run said before it failed.
    """
    chosen = list(dict.fromkeys([FLOAT32, *formats]))
    if chosen == [FLOAT32]:
        raise PtqxError(f"formats must have one beside float32; known: {', '.join(FORMATS)}")
    switches = {name: _switches(name) for name in chosen}
    if processes < 2:
        raise PtqxError(f"processes must be at least 2 to send each other gradients, got {processes}")
    if not seeds:
        raise PtqxError("seeds must have at least one, got none")
    command = [*_torchrun(processes), "--model", model, "--dataset", dataset, *options]
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in chosen}
    runs = [(name, seed) for seed in seeds for name in chosen]
    for name, seed in tqdm(runs, desc="trainings", disable=not progress):
        folder = Path(out) / f"{name}-seed{seed}"
        results[name].append(_run([*command, *switches[name], "--seed", str(seed)], folder))
    return GradientTable(_rows(results))


def _switches(name: str) -> list[str]:
    bits, _, rounding = name.partition("-")
    if name not in FORMATS:
        raise PtqxError(f"unknown gradients {name!r}; known: {', '.join(FORMATS)}")
    if name == FLOAT32:
        return []
    format = GradientFormat(int(bits), rounding or "nearest")
    return ["--gradient-bits", str(format.bits), "--gradient-rounding", format.rounding]


def _torchrun(processes: int) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*launcher, f"--nproc-per-node={processes}", "-m", "ptqx.train"]


def _run(command: Sequence[str], folder: Path) -> dict[str, Any]:
    file = folder / "result.json"
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    done = subprocess.run(
        [*command, "--out", str(folder), "--json", str(file)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": threads},
        check=False,
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "error: " in line.lower()]
        reason = said[0].partition("rror: ")[2] if said else f"it ended with status {done.returncode}"
        raise PtqxError(f"the training in {folder} failed: {reason}")
    result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return result


def _rows(results: dict[str, list[dict[str, Any]]]) -> list[GradientRow]:
    float32_bytes = next(
        runs[0]["float32_gradient_bytes"] for name, runs in results.items() if name != FLOAT32
    )
    reference = mean(run["top1"] for run in results[FLOAT32])
    rows = []
    for name, runs in results.items():
        by_seed = [run["top1"] for run in runs]
        sent = runs[0].get("gradient_bytes", float32_bytes)
        rows.append(GradientRow(name, mean(by_seed), mean(by_seed) - reference, by_seed, sent, float32_bytes))
    return rows
