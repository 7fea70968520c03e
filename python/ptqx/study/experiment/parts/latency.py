"""How long a batch takes in every format, simulated quantization and plain PyTorch beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ....errors import PtqxError
from ....graph import calibrate, compile, load, prepare, quantize
from ....quant import Recipe
from ... import formats
from ...compare import speed_entries
from ..config import Study
from ..part import Unit, Values, part
from ..subject import Subject
from ..torchao import TORCHAO_INT4, quantized_by_torchao

TIMED_CALIBRATION = 128  # images: accuracy is not asked
EAGER, SIMULATED = "fp32, eager", "int8, simulated, eager"


@dataclass(frozen=True)
class LatencyOptions:
    """single: also batches of one image. simulated: also fake quantization, and fp32 run in the same way."""

    single: bool = True
    simulated: bool = True


@part("latency", LatencyOptions)
def latency(study: Study, options: LatencyOptions) -> Iterator[Unit]:
    """One unit: all formats take turns in one process."""
    depends = {"formats": study.titles, "batch": study.batch_size, "threads": study.threads, **vars(options)}
    yield Unit("latency", "all formats", lambda subject: _measured(subject, options), depends)


def _measured(subject: Subject, options: LatencyOptions) -> Values:
    study = subject.study
    modules: dict[str, nn.Module] = {}
    notes: dict[str, str] = {}
    for name in study.formats:
        if (module := _float_module(subject, name, notes)) is not None:
            modules[name] = module
    for name, recipe in study.recipes.items():
        modules[name] = _integer_module(subject, name, recipe, notes)
    if options.simulated:
        modules |= {EAGER: subject.model, SIMULATED: _Simulated(subject)}
    sizes = dict.fromkeys([len(subject.example), 1] if options.single else [len(subject.example)])
    speed = [e for n in sizes for e in speed_entries(modules, subject.example[:n], study.seconds)]
    return {"speed": speed, "notes": notes}


def _float_module(subject: Subject, name: str, notes: dict[str, str]) -> nn.Module | None:
    """None where a time would mean nothing."""
    model = subject.model
    if name == TORCHAO_INT4:
        return quantized_by_torchao(model)
    if name in formats.FLOAT16_TYPES:
        model, simulated = formats.in_16_bits(model, name)
        if simulated:
            notes[name] = simulated
            return None
    module, notes[name] = formats.compiled(model, subject.example)
    return module


def _integer_module(subject: Subject, name: str, recipe: Recipe, notes: dict[str, str]) -> nn.Module:
    """The row's own file; where that is gone, a network of the same recipe, which takes the same time."""
    file = subject.models / f"{name}.ptqx"
    if file.is_file():
        model = load(file)
    else:
        few = subject.calibration(subject.study.seed, TIMED_CALIBRATION)
        model = quantize(subject.model, few, replace(recipe, methods=()))
    try:
        return compile(model, subject.example)
    except PtqxError as error:
        notes[name] = f"operator by operator: {error}"
        return model


class _Simulated(nn.Module):
    """Fake quantization of int8 in float32, as it is done to find out what quantization costs."""

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        recipe: str | Recipe = "int8"
        prepared = calibrate(prepare(subject.model, recipe, subject.example), subject.calibration(0)).eval()
        self.run: Callable[[Tensor], Tensor] = torch.no_grad()(prepared.fake_quantized)

    def forward(self, x: Tensor) -> Any:
        return self.run(x)
