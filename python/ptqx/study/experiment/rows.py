"""The rows of a study: float formats, recipes after training, and training as an integer network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ... import graph
from ...errors import PtqxError
from ...qat import train_control, train_quantized
from ...quant import Recipe
from ...train import Evaluation, Row, distributed, evaluate
from ...train.loop import CHECKPOINT, default_device
from ..formats import FLOAT16_TYPES, Candidate, execution, float_file, in_16_bits, integer_candidate
from ..layers import layer_sqnr
from .config import PostTraining, QuantizationAware, Study
from .part import Unit, Values
from .subject import RUNS, Subject, plain_recipe
from .torchao import TORCHAO_INT4, torchao_int4

ROWS = "rows"


def row_units(study: Study) -> Iterator[Unit]:
    """One unit for every run of every row: calibration sets and training seeds are runs."""
    for name in study.formats:
        yield _unit(name, 0, _float_run(name))
    for row in study.ptq:
        for index in range(row.sets or study.calibration.sets):
            seed = study.seed + index
            images = row.images or study.calibration.images
            depends = {"recipe": row.to_recipe().to_dict(), "images": images}
            yield _unit(row.title, seed, _post_training_run(row, seed, keep=index == 0), depends)
    for control in {row.title: row for row in controls(study).values()}.values():
        for seed in control.seeds:
            depends = {"train": control.control_config(seed).identity()}
            yield _unit(control.control_title(), seed, _control_run(control, seed), depends, trains=True)
    for qat in study.qat:
        for index, seed in enumerate(qat.seeds):
            depends = {
                "recipe": qat.to_recipe().to_dict(),
                "train": qat.qat_config(seed).identity(),
                "images": study.calibration.images,
            }
            yield _unit(qat.title, seed, _qat_run(qat, seed, keep=index == 0), depends, trains=True)


def controls(study: Study) -> dict[str, QuantizationAware]:
    """Title of a QAT row to the row whose control it shares: the first that trains in the same way."""
    first: dict[str, QuantizationAware] = {}
    shared = {}
    for row in study.qat:
        if row.control:
            way = str([row.seeds, *(row.control_config(seed).identity() for seed in row.seeds)])
            shared[row.title] = first.setdefault(way, row)
    return shared


def _unit(
    row: str,
    seed: int,
    run: Callable[[Subject], Values],
    depends: dict[str, Any] | None = None,
    trains: bool = False,
) -> Unit:
    values = {"row": row, "seed": seed}
    scratch = (f"{RUNS}/{escape(row)}-{seed}-*/**/{CHECKPOINT}",)
    name = f"{row}, seed {seed}"
    return Unit(ROWS, name, lambda subject: values | run(subject), depends or {}, scratch, trains)


def _float_run(name: str) -> Callable[[Subject], Values]:
    def run(subject: Subject) -> Values:
        if name == TORCHAO_INT4:
            return torchao_int4(subject)
        if name == "fp32":
            path = float_file(name, subject.model, subject.models)
            return _run_values(subject, _float_candidate(subject.model, path), None, 0)
        module, detail = in_16_bits(subject.model, name)
        path = float_file(name, subject.model, subject.models, FLOAT16_TYPES[name])
        return _run_values(subject, _float_candidate(module, path, detail), None, 0)

    return run


def _float_candidate(module: nn.Module, path: Path, detail: str = "") -> Candidate:
    return Candidate(module, None, "float", "simulated" if detail else "float", path, detail=detail)


def _post_training_run(row: PostTraining, seed: int, keep: bool) -> Callable[[Subject], Values]:
    def run(subject: Subject) -> Values:
        batches = subject.calibration(seed, row.images)
        prepared = graph.calibrate(graph.prepare(subject.model, row.to_recipe(), subject.example), batches)
        prepared = graph.apply_methods(prepared, batches)
        return quantized_values(subject, row.title, "ptq", prepared, sum(map(len, batches)), keep)

    return run


def _qat_run(row: QuantizationAware, seed: int, keep: bool) -> Callable[[Subject], Values]:
    def run(subject: Subject) -> Values:
        batches = subject.calibration(seed)
        folder = subject.run_folder(
            row.title, seed, [row.to_recipe().to_dict(), row.qat_config(seed).identity()]
        )
        prepared = train_quantized(
            subject.model,
            row.to_recipe(),
            subject.train,
            subject.test,
            row.qat_config(seed),
            batches,
            out=folder,
            identity={"row": row.title},
            progress=subject.progress,
        )
        if distributed.rank() != 0:
            return {}
        values = quantized_values(subject, row.title, "qat", prepared, sum(map(len, batches)), keep)
        values["detail"] += f"; {row.epochs} epochs from the calibrated model{_trained_on()}"
        return values | {"epochs": row.epochs, "history": _history(prepared.history)}

    return run


def _control_run(row: QuantizationAware, seed: int) -> Callable[[Subject], Values]:
    def run(subject: Subject) -> Values:
        folder = subject.run_folder(row.control_title(), seed, row.control_config(seed).identity())
        model, result = train_control(
            subject.model,
            row.to_recipe(),
            subject.train,
            subject.test,
            row.control_config(seed),
            out=folder,
            identity={"row": row.control_title()},
            progress=subject.progress,
        )
        if distributed.rank() != 0:
            return {}
        path = float_file(row.control_title(), model, subject.models)
        values = _run_values(subject, _float_candidate(model, path), None, 0)
        path.unlink()
        values["detail"] = f"{row.epochs} epochs more in float{_trained_on()}"
        return values | {"epochs": row.epochs, "history": _history(result.history)}

    return run


def quantized_values(
    subject: Subject, name: str, kind: str, prepared: graph.SimulatedModel, images: int, keep: bool
) -> Values:
    """Convert, verify, store and evaluate; with the error of each layer where the file is kept.

    Raises:
        PtqxError: the integer model differs from the simulated one, or the engine from both; the row and the
            layer are named.
    """
    file = name if keep else f"{name}, not kept"
    try:
        candidate = integer_candidate(file, kind, prepared, subject.task())
    except PtqxError as error:
        raise PtqxError(f"row {name!r}: {error}") from error
    values = _run_values(subject, candidate, plain_recipe(prepared.recipe), images)
    if keep:
        values["sqnr"] = layer_sqnr(prepared, subject.analysed)
        values["float_layers"] = [
            f"{layer['name']}: {layer['reason']}"
            for layer in candidate.layers
            if layer["execution"] == "float"
        ]
    else:
        candidate.file.unlink()
    return values


def _run_values(subject: Subject, candidate: Candidate, recipe: dict[str, Any] | None, images: int) -> Values:
    with torch.no_grad():
        evaluation = evaluate(candidate.module, subject.test)
    return {
        "kind": candidate.kind,
        "execution": candidate.execution,
        "recipe": recipe,
        "n_calibration": images,
        "size_bytes": candidate.file.stat().st_size,
        "coverage": candidate.coverage,
        "detail": candidate.detail,
        **subject.accuracy(evaluation),
    }


def _trained_on() -> str:
    """The GPU, if one trains."""
    device = default_device()
    return f", on {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""


def _history(rows: list[Row]) -> list[dict[str, float]]:
    """The log of a training run, one row an epoch, without its times."""
    return [{key: float(value) for key, value in row.items() if key != "seconds"} for row in rows]


def evaluated(
    subject: Subject, recipe: Recipe, change: Callable[[graph.SimulatedModel], None] | None = None
) -> tuple[graph.SimulatedModel, Evaluation]:
    """A recipe after training on the study's first calibration set: the simulated model, and the accuracy of
    the integer model made of it.

    Args:
        change: made to the calibrated model before it is converted.
    """
    batches = subject.calibration(subject.study.seed)
    prepared = graph.calibrate(graph.prepare(subject.model, recipe, subject.example), batches)
    prepared = graph.apply_methods(prepared, batches)
    if change is not None:
        change(prepared)
    integer = graph.convert(prepared)
    module: nn.Module = integer
    if execution(recipe, graph.coverage(integer)) == "integer":
        with suppress(PtqxError):  # some operations are not the engine's
            module = graph.compile(integer, subject.example)
    return prepared, evaluate(module, subject.test)
