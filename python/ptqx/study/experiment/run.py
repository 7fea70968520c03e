"""Run a study: one unit of work at a time, each stored before the next begins."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from .. import machine
from ..timing import thread_count
from .config import Study
from .part import Unit, units
from .results import FILE, Results, read_results
from .subject import Subject, digest, load_subject
from .table import LATENCY

REPORT = "report.html"


def run_study(
    study: Study,
    folder: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] = "data",
    download: bool = True,
    resume: bool = True,
    progress: bool = True,
) -> Results:
    """Do everything that `study` asks for; results.json, figures and report.html are in `folder`.

    results.json is written after every unit. A run that was stopped anywhere, killed included, goes on where
    it was and ends with the same results, times apart; units whose inputs changed are done again. It needs
    results.json alone for that: the file may come from another machine, and models may have been deleted.

    Args:
        root, download: of the data set.
        resume: False starts anew.

    Raises:
        PtqxError: a mistake in the study; a simulated and an integer model that differ, with row and layer.
    """
    folder = Path(folder)
    with thread_count(study.threads):
        subject = load_subject(study, folder, Path(root), download, progress)
        results = Results(_info(subject), machine.describe(), asdict(study))
        planned = units(study)
        base = {"model": digest(subject.model), "dataset": study.dataset, "seed": study.seed}
        prints = [unit.fingerprint(base) for unit in planned]
        if resume and (folder / FILE).is_file():
            former = read_results(folder / FILE)
            found = map(former.find, prints)
            results.units = [entry for entry in found if entry is not None]
            if results.of(LATENCY):
                results.machine = former.machine  # whose times they are
        _work(subject, results, planned, prints)
    _finish(results, folder, prints)
    return results


def _work(subject: Subject, results: Results, planned: Sequence[Unit], prints: Sequence[str]) -> None:
    done = {entry["fingerprint"] for entry in results.units}
    subject.models.mkdir(parents=True, exist_ok=True)
    with tqdm(total=len(planned), initial=len(done), disable=not subject.progress) as bar:
        for unit, fingerprint in zip(planned, prints, strict=True):
            if fingerprint in done:
                continue
            bar.set_description_str(f"{unit.part}: {unit.name}")
            torch.manual_seed(subject.study.seed)
            began = time.monotonic()
            values = unit.run(subject)
            results.units.append(
                {
                    "part": unit.part,
                    "name": unit.name,
                    "fingerprint": fingerprint,
                    "seconds": round(time.monotonic() - began, 2),
                    "values": values,
                }
            )
            results.write(subject.folder, prints)
            for pattern in unit.scratch:
                for file in subject.folder.glob(pattern):
                    file.unlink()
            bar.update()


def _finish(results: Results, folder: Path, prints: Sequence[str]) -> None:
    """Table, verdicts, figures and report, from the stored values as they are read back."""
    from .report import complete, write_report

    results.write(folder, prints)
    stored = complete(read_results(folder / FILE))
    stored.write(folder, prints)
    write_report(stored, folder)
    vars(results).update(vars(stored))


def _info(subject: Subject) -> dict[str, Any]:
    study = subject.study
    return {
        "name": study.name,
        "tier": study.tier,
        "model": study.model,
        "dataset": study.dataset,
        "test_images": len(subject.test),
        "train_images": len(subject.train),
        "calibration_images": min(study.calibration.images, len(subject.train)),
        "parameters": sum(p.numel() for p in subject.model.parameters()),
        "threads": torch.get_num_threads(),
        "seed": study.seed,
    }
