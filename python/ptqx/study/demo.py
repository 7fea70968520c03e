"""The whole path in a minute, on data that comes with scikit-learn."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from ..qat import QATConfig
from ..train import TrainConfig, fit
from .compare import DEFAULT_FORMATS, compare
from .report import Report
from .timing import thread_count
from .workload import load_workload

DEMO_FORMATS = (*DEFAULT_FORMATS, "w3a3", "w3a3-qat")


def demo(
    folder: str | os.PathLike[str] = "demo",
    *,
    epochs: int = 12,
    formats: Sequence[str] = DEMO_FORMATS,
    threads: int = 1,
    seconds: float = 0.5,
    progress: bool = True,
) -> Report:
    """Train the small CNN on 8x8 digits, compare it in several formats, and write everything to `folder`.

    results.json, report.html, the float model (fp32.safetensors) and every integer one (int8.ptqx, ...).

    Args:
        threads: one by default, because images this small leave nothing to share.
        seconds: time for the latency of one format.
    """
    folder = Path(folder)
    training = TrainConfig(epochs=epochs, batch_size=64, amp="off")
    with thread_count(threads):
        torch.manual_seed(training.seed)
        work = load_workload("cnn", "digits", None)
        fit(work.model, work.train, work.test, training, device="cpu", progress=progress)
        report = compare(
            work.model,
            work.train,
            work.test,
            formats,
            threads=threads,
            qat=QATConfig(epochs=3, batch_size=64, amp="off"),
            seconds=seconds,
            single=False,
            save_to=folder,
            info={"model": "cnn", "dataset": "digits", "command": "ptqx demo"},
            progress=progress,
        )
    report.to_json(folder / "results.json")
    report.to_html(folder / "report.html")
    return report
