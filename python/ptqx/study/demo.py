"""The whole path in a minute, on data that comes with scikit-learn."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from ..train import TrainConfig, fit
from .compare import DEFAULT_FORMATS, compare
from .report import Report
from .workload import load_workload

DEMO_FORMATS = (*DEFAULT_FORMATS, "w3a3", "w3a3-qat")


def demo(
    folder: str | os.PathLike[str] = "demo",
    *,
    epochs: int = 12,
    formats: tuple[str, ...] = DEMO_FORMATS,
    threads: int | None = None,
    seconds: float = 1.0,
    progress: bool = True,
) -> Report:
    """Train the small CNN on 8x8 digits, compare it in several formats, and write everything to `folder`.

    results.json, report.html, the float model (fp32.safetensors) and every integer one (int8.ptqx, ...).
    """
    folder = Path(folder)
    torch.manual_seed(0)
    work = load_workload("cnn", "digits", None)
    config = TrainConfig(epochs=epochs, batch_size=64, amp="off", augment=True)
    fit(work.model, work.train, work.test, config, device="cpu", progress=progress)
    report = compare(
        work.model,
        work.train,
        work.test,
        formats,
        threads=threads,
        qat=TrainConfig(epochs=3, batch_size=64, lr=0.02, warmup_epochs=0.0, amp="off"),
        seconds=seconds,
        save_to=folder,
        info={"model": "cnn", "dataset": "digits", "command": "ptqx demo"},
        progress=progress,
    )
    report.to_json(folder / "results.json")
    report.to_html(folder / "report.html")
    return report
