"""Run a study: one unit of work at a time, each stored before the next begins."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ...errors import PtqxError
from ...train import distributed
from ...train.loop import default_device
from .. import machine
from ..timing import thread_count
from .config import Study
from .part import Unit, units
from .results import FILE, Results, read_results
from .rows import controls
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

    Under torchrun all processes train, each with its share of every batch, what there is to train. Then they
    leave their process group, and the first one does the rest. It writes everything and alone has results.

    Args:
        root, download: of the data set.
        resume: False starts anew.

    Raises:
        PtqxError: a mistake in the study; a simulated and an integer model that differ, with row and layer;
            a process group that exists already.
    """
    if distributed.world_size() > 1:
        raise PtqxError("run_study: call it outside of a process group; it needs one for training alone")
    folder = Path(folder)
    progress = progress and distributed.launched_rank() == 0
    with thread_count(study.threads):
        with distributed.process_group(default_device()):
            subject = load_subject(study, folder, Path(root), download, progress)
            results = Results(_info(subject), machine.describe(), asdict(study))
            planned = _planned(subject)
            order = list(planned)
            if resume and (folder / FILE).is_file():
                former = read_results(folder / FILE)
                found = map(former.find, order)
                results.units = [entry for entry in found if entry is not None]
                if results.of(LATENCY):
                    results.machine = former.machine  # whose times they are
            if distributed.world_size() > 1:
                training = {key: unit for key, unit in planned.items() if unit.trains}
                _work(subject, results, training, order)
        if distributed.launched_rank() != 0:
            return results
        _work(subject, results, planned, order)
    _finish(results, folder, order)
    return results


def _planned(subject: Subject) -> dict[str, Unit]:
    """The study's units, in order, by their fingerprints."""
    study = subject.study
    base: dict[str, Any] = {"model": digest(subject.model), "dataset": study.dataset, "seed": study.seed}
    if study.model_options:
        base["model_options"] = dict(study.model_options)
    return {unit.fingerprint(base): unit for unit in units(study)}


def _work(subject: Subject, results: Results, planned: Mapping[str, Unit], order: Sequence[str]) -> None:
    """Do the units, by fingerprint, that have no result yet; the first process stores what they give."""
    done = {entry["fingerprint"] for entry in results.units}
    subject.models.mkdir(parents=True, exist_ok=True)
    with tqdm(total=len(planned), initial=len(done & planned.keys()), disable=not subject.progress) as bar:
        for fingerprint, unit in planned.items():
            if fingerprint in done:
                continue
            bar.set_description_str(f"{unit.part}: {unit.name}")
            torch.manual_seed(subject.study.seed)
            began = time.monotonic()
            values = unit.run(subject)
            if distributed.rank() != 0:
                continue
            results.units.append(
                {
                    "part": unit.part,
                    "name": unit.name,
                    "fingerprint": fingerprint,
                    "seconds": round(time.monotonic() - began, 2),
                    "values": values,
                }
            )
            results.write(subject.folder, order)
            for pattern in unit.scratch:
                for file in subject.folder.glob(pattern):
                    file.unlink()
            bar.update()


def _finish(results: Results, folder: Path, order: Sequence[str]) -> None:
    """Table, verdicts, figures and report, from the stored values as they are read back."""
    from .report import complete, write_report

    results.write(folder, order)
    stored = complete(read_results(folder / FILE))
    stored.write(folder, order)
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
        "controls": {title: row.control_title() for title, row in controls(study).items()},
    }
