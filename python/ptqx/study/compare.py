"""One CNN in several formats: accuracy, size, speed and coverage in one table."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..data import ImageDataset, Loader, calibration_split
from ..errors import PtqxError
from ..qat import QATConfig
from ..train import Evaluation, evaluate
from . import machine
from .formats import Candidate, Task, expanded, maker
from .layers import layer_sqnr
from .report import Report
from .rows import accuracy_columns, row_of
from .statistics import activation_distributions, sqnr_db, weight_distributions
from .timing import Latency, interleaved, thread_count

DEFAULT_FORMATS = ("fp32", "fp16", "bf16", "int8", "int4")
CALIBRATION_BATCH = 128
ANALYSIS_IMAGES = 64  # for activation histograms and the SQNR of layer outputs
Batches = Iterable[Any]


def compare(
    model: nn.Module,
    train: ImageDataset | Batches,
    test: ImageDataset | Batches,
    formats: Sequence[str] = DEFAULT_FORMATS,
    *,
    example_inputs: Tensor | None = None,
    batch_size: int = 64,
    threads: int | None = None,
    calibration: int = 1024,
    seed: int = 0,
    qat: QATConfig | None = None,
    seconds: float = 3.0,
    single: bool = True,
    save_to: str | Path | None = None,
    info: dict[str, Any] | None = None,
    progress: bool = True,
) -> Report:
    """Make `model` in every format and measure each on the same images and the same machine.

    Accuracy is that of the test images through the format's own arithmetic, integer where it is integer, and
    drops come with a paired bootstrap interval. Latencies are medians of interleaved rounds in this process,
    against torch.compile'd fp32. Sizes are those of files that were written.

    Args:
        model: a float CNN; it is not changed.
        train: a data set, or batches x or (x, y); calibration images come from it, and QAT trains on it.
        test: a data set, or a list or loader of batches (x, y), run through several times.
        formats: "fp32", "fp16", "bf16", any recipe ("int8", "w4a4", ...), any recipe with "-qat"; "all" for
            every listed one without training. fp32 is always the first row, because the others refer to it.
        example_inputs: what is timed, (N, C, H, W); by default the first `batch_size` test images.
        threads: of torch and the engine; by default torch's present number.
        calibration: at most this many training images.
        qat: how "-qat" formats train; by default 5 epochs, the rest chosen for each recipe.
        seconds: time for the latency of one format.
        single: also measure batches of one image.
        save_to: folder for the files; by default they are deleted when their size is known.
        info: facts for the report, such as model and data set names.

    Raises:
        PtqxError: an unknown format (the nearest are named), data that can't be used, or a format that the
            model can't take.
    """
    makers = {name: maker(name) for name in expanded(("fp32", *formats))}
    for name, value in (("batch_size", batch_size), ("calibration", calibration)):
        if value < 1:
            raise PtqxError(f"{name} must be at least 1, got {value}")
    _check_repeatable("test", test)
    example = first_images(test, batch_size) if example_inputs is None else example_inputs
    example = example.float().contiguous(memory_format=torch.channels_last)
    folder = tempfile.TemporaryDirectory(prefix="ptqx-") if save_to is None else nullcontext(str(save_to))
    with (
        thread_count(threads) as used_threads,
        folder as place,
        tqdm(total=2 * len(makers) + 2, disable=not progress) as bar,
    ):
        task = Task(
            model=copy.deepcopy(model).eval().to(memory_format=torch.channels_last),  # type: ignore[call-overload]
            calibration=calibration_batches(train, calibration, seed),
            example=example,
            folder=Path(place),
            train=train,
            test=test,
            qat=qat or QATConfig(seed=seed),
            progress=progress,
        )
        torch.manual_seed(seed)
        candidates: dict[str, Candidate] = {}
        evaluations: dict[str, Evaluation] = {}
        for name, make in makers.items():
            with _step(bar, f"make {name}"):
                candidates[name] = make(name, task)
            with _step(bar, f"evaluate {name}"):
                evaluations[name] = evaluate(candidates[name].module, test)
        with _step(bar, "time"):
            sizes = dict.fromkeys([len(example), 1] if single else [len(example)])
            timed = {name: c.timed for name, c in candidates.items() if c.timed is not None}
            speed = [entry for size in sizes for entry in speed_entries(timed, example[:size], seconds)]
        with _step(bar, "analyse layers"):
            sqnr = _sqnr(candidates, example[:ANALYSIS_IMAGES])
            distributions = [
                *weight_distributions(task.model),
                *activation_distributions(task.model, example[:ANALYSIS_IMAGES]),
            ]
        described = machine.describe()
        conditions = {"batch": len(example), "threads": used_threads, "isa": described["isa"]}
        rows = [
            _row(name, candidate, speed, conditions)
            | accuracy_columns(evaluations["fp32"], evaluations[name], seed)
            | {"sqnr_db": _logits_db(evaluations["fp32"], evaluations[name])}
            for name, candidate in candidates.items()
        ]
    facts = {
        "model": type(model).__name__,
        "dataset": train.name if isinstance(train, ImageDataset) else "custom",
        "test_images": len(evaluations["fp32"].labels),
        "calibration_images": sum(len(x) for x in task.calibration),
        "parameters": sum(p.numel() for p in model.parameters()),
        "seed": seed,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }
    return Report(
        rows=[row_of(row) for row in rows],
        info=facts | (info or {}),
        machine=described,
        speed=speed,
        coverage={name: c.layers for name, c in candidates.items() if c.layers},
        sqnr=sqnr,
        distributions=[d.to_dict() for d in distributions],
    )


def _row(
    name: str, candidate: Candidate, speed: list[dict[str, Any]], conditions: dict[str, Any]
) -> dict[str, Any]:
    """Everything in a row but accuracy."""
    times = next((e for e in speed if e["format"] == name and e["batch"] == conditions["batch"]), {})
    return {
        "format": name,
        "kind": candidate.kind,
        "execution": candidate.execution,
        "size_bytes": candidate.file.stat().st_size,
        "latency_ms": times.get("median_ms"),
        "throughput": times.get("throughput"),
        "speedup_vs_fp32": times.get("speedup_vs_fp32"),
        "coverage": candidate.coverage,
        "detail": candidate.detail,
        **conditions,
    }


def _logits_db(reference: Evaluation, evaluation: Evaluation) -> float | None:
    return None if evaluation is reference else sqnr_db(reference.logits, evaluation.logits)


def _sqnr(candidates: dict[str, Candidate], x: Tensor) -> list[dict[str, Any]]:
    return [
        {"format": name, **entry}
        for name, candidate in candidates.items()
        if candidate.simulated is not None
        for entry in layer_sqnr(candidate.simulated, x)
    ]


def speed_entries(modules: dict[str, nn.Module], x: Tensor, seconds: float) -> list[dict[str, Any]]:
    """Medians of interleaved rounds of every module on the batch `x`, against the one called "fp32"."""
    calls = {name: _call(module, x) for name, module in modules.items()}
    with torch.no_grad():
        latencies = interleaved(calls, seconds=seconds)
    return [_speed_entry(name, latency, latencies["fp32"], len(x)) for name, latency in latencies.items()]


def _call(module: nn.Module, x: Tensor) -> Any:
    return lambda: module(x)


def _speed_entry(name: str, latency: Latency, reference: Latency, batch: int) -> dict[str, Any]:
    return {
        "format": name,
        "batch": batch,
        "median_ms": latency.median_ms,
        "lower_quartile_ms": latency.lower_quartile_ms,
        "upper_quartile_ms": latency.upper_quartile_ms,
        "rounds": latency.rounds,
        "throughput": 1e3 * batch / latency.median_ms,
        "speedup_vs_fp32": reference.median_ms / latency.median_ms,
    }


def first_images(test: ImageDataset | Batches, count: int) -> Tensor:
    """Up to `count` inputs, those of the first batch."""
    batches = Loader(test, count) if isinstance(test, ImageDataset) else test
    for batch in batches:
        return _inputs(batch)[:count]
    raise PtqxError("test has no images")


def calibration_batches(train: ImageDataset | Batches, images: int, seed: int) -> list[Tensor]:
    """Inputs of `images` training images, drawn by `seed` where `train` is a data set."""
    if isinstance(train, ImageDataset):
        train = Loader(calibration_split(train, images, seed), CALIBRATION_BATCH)
    batches: list[Tensor] = []
    for batch in train:
        x = _inputs(batch)[: images - sum(len(b) for b in batches)]
        if len(x):
            batches.append(x)
        if sum(len(b) for b in batches) >= images:
            break
    if not batches:
        raise PtqxError("train has no images to calibrate with")
    return batches


def _inputs(batch: Any) -> Tensor:
    x = batch[0] if isinstance(batch, (tuple, list)) else batch
    if not isinstance(x, Tensor):
        raise PtqxError(f"a batch must be a tensor or (x, y), got {type(x).__name__}")
    return x


def _check_repeatable(name: str, data: Any) -> None:
    if not isinstance(data, ImageDataset) and iter(data) is data:
        raise PtqxError(f"{name} is read several times: give a list or a loader, not an iterator")


@contextmanager
def _step(bar: Any, what: str) -> Iterator[None]:
    """Show what is being done; count it as done afterwards."""
    bar.set_description_str(what)
    yield
    bar.update()
