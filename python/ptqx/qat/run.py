"""Quantization-aware training from start to end, and the float run to compare it with."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import graph
from ..data import ImageDataset, Loader, calibration_split, split
from ..errors import PtqxError
from ..graph import SimulatedModel
from ..quant import PACT, Quantizer, Recipe
from ..quant import recipe as find_recipe
from ..train import (
    Distillation,
    Hook,
    Row,
    TrainConfig,
    TrainResult,
    decay_groups,
    distributed,
    evaluate,
    fingerprint,
    fit,
)
from ..train.loop import default_device
from ..train.optimizer import ParameterGroups
from .batch_norm import BatchNormStatistics
from .config import QATConfig
from .guard import IntegerGuard, integer_of
from .oscillation import FreezeOscillating
from .stages import Stage

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

STATISTICS_IMAGES = 1024  # by which those of batch norms are found
STATISTICS_BATCH = 128


def train_quantized(
    model: nn.Module,
    recipe: str | Recipe,
    train: ImageDataset,
    test: ImageDataset,
    config: QATConfig | None,
    calibration: Iterable[Any],
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool = True,
    identity: dict[str, Any] | None = None,
    teacher: nn.Module | None = None,
    hooks: Sequence[Hook] = (),
    device: torch.device | str | None = None,
    progress: bool = True,
) -> SimulatedModel:
    """Calibrate a trained float model and train it on as its integer self.

    Step sizes are learned unless the recipe names another quantizer; batch norms learn their statistics. A
    part of `train` (`config.val_split`) is held out: after every epoch the model is converted, the integer
    model's accuracy there is logged, the best epoch is kept by it, and a collapse ends the run. The test
    set's accuracy is logged beside it; nothing is chosen by it.

    Args:
        model: the float model; it is not changed.
        recipe: its post-training methods are not run; training takes their place.
        config: None chooses everything for the recipe (`QATConfig`).
        calibration: batches x or (x, y) for the starting ranges; read once for every stage.
        out: folder of log.csv, checkpoint.pt, config.json and best.ptqx, with a folder in it for every stage
            before the last; None keeps nothing and can't be resumed.
        resume: continue the run in `out`, bit by bit as if it had not been stopped.
        identity: further facts (model, data set) that must be equal for a run to be continued.
        teacher: gives logits, for `config.distillation`; by default the float model.
        hooks: what else takes part in every stage, such as `KeepZeros`.
        device: to train on, by default the GPU if there is one. The integer model runs on the CPU.

    Returns:
        The trained simulated model, on the CPU, of the epoch that was kept; `ptqx.convert` makes it an
        integer one. Its `history` has a row per epoch: epoch, lr, train_loss, train_top1, val_loss,
        val_top1, test_loss, test_top1 (integer arithmetic), seconds, weight_bits, activation_bits, frozen.
        Row 0 is the calibrated model before training, so the first row not below it is where training meets
        post-training quantization.

    Raises:
        PtqxError: a config that does not fit, a collapse, a checkpoint of another run.
        ptqx.train.Interrupted: Ctrl-C or SIGTERM; the same call continues.

    >>> from ptqx.data import Loader, load
    >>> from ptqx.models import cnn
    >>> digits, test = load("digits"), load("digits", split="test")
    >>> config = QATConfig(epochs=1, lr=0.01)
    >>> prep = train_quantized(cnn(width=4), "int8", digits, test, config, Loader(test), progress=False)
    >>> [row["epoch"] for row in prep.history]
    [0, 1]
    """
    chosen = find_recipe(recipe)
    resolved = (config or QATConfig()).resolved(chosen)
    place = torch.device(device or default_device())
    batches = list(calibration)
    with distributed.process_group(place):
        run = _QATRun(model, resolved, train, test, batches, teacher, place)
        run.identity |= identity or {}
        stages = resolved.stages(chosen)
        prepared = run.prepared(chosen, None)
        history = [run.start(prepared, stages[-1])]
        for number, stage in enumerate(stages, start=1):
            last = number == len(stages)
            if not last or number > 1:
                prepared = run.prepared(stage.recipe, prepared if number > 1 else None)
            folder = None if out is None else Path(out) if last else Path(out) / f"{number}-{stage.name}"
            history = run.train_stage(prepared, stage, folder, resume, history, hooks, progress)
    prepared.history = history
    return prepared.eval().cpu()


def train_control(
    model: nn.Module,
    recipe: str | Recipe,
    train: ImageDataset,
    test: ImageDataset,
    config: QATConfig | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool = True,
    identity: dict[str, Any] | None = None,
    teacher: nn.Module | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> tuple[nn.Module, TrainResult]:
    """Train the float model on as `train_quantized` would train the quantized one, but without quantizing.

    The same images in the same order and augmentation, epochs, learning rate, loss and teacher, the same
    held-out part: what is left between the two is quantization. The last epoch is kept.

    Returns:
        A trained copy of the model, in eval() mode on the CPU, and its log and test accuracy.
    """
    resolved = (config or QATConfig()).resolved(find_recipe(recipe))
    place = torch.device(device or default_device())
    trained = copy.deepcopy(model)
    loop = resolved.loop(resolved.epochs)
    with distributed.process_group(place):
        run = _QATRun(model, resolved, train, test, [], teacher, place)
        result = fit(
            trained,
            run.train,
            test,
            loop,
            out=out,
            resume=resume,
            identity={**run.identity, **(identity or {}), "control": True},
            device=place,
            criterion=run.loss(loop),
            hooks=run.shared_hooks(resolved.epochs),
            validation=run.held_out,
            progress=progress,
        )
    return trained.eval().cpu(), result


class _QATRun:
    """What the stages of a run share."""

    def __init__(
        self,
        model: nn.Module,
        config: QATConfig,
        train: ImageDataset,
        test: ImageDataset,
        calibration: list[Any],
        teacher: nn.Module | None,
        device: torch.device,
    ) -> None:
        if teacher is not None and not config.distillation:
            raise PtqxError("teacher: distillation is 0, so it would not be asked; give a share of the loss")
        self.model = model
        self.config = config
        self.train, self.held_out = split(train, config.val_split, config.seed)
        self.test = test
        self.calibration = calibration
        self.device = device
        self.teacher = (teacher or model) if config.distillation else None
        self.identity: dict[str, Any] = {**config.beyond_loop(), "start": fingerprint(model)}
        if self.teacher is not None:
            self.identity["teacher"] = fingerprint(self.teacher)

    def prepared(self, recipe: Recipe, before: SimulatedModel | None) -> SimulatedModel:
        """Simulated and calibrated, with the float model's weights or those of the stage before."""
        prepared = graph.prepare(self.model, recipe, _first_input(self.calibration), qat=True)
        if before is not None:
            own = prepared.state_dict()
            learned = {name: tensor for name, tensor in before.state_dict().items() if name in own}
            kept = {name: t for name, t in learned.items() if not name.startswith("quantizers.")}
            prepared.load_state_dict({**own, **kept})
        return graph.calibrate(prepared, self.calibration)

    def start(self, prepared: SimulatedModel, stage: Stage) -> Row:
        """The row of the calibrated model, as epoch 0."""
        row: Row = {"epoch": 0}
        if distributed.rank() == 0:
            _, module = integer_of(prepared.eval())
            for name, data in (("val", self.held_out), ("test", self.test)):
                evaluation = evaluate(module, data)
                row |= {f"{name}_loss": evaluation.loss, f"{name}_top1": evaluation.top1}
        return row | _widths(stage)

    def train_stage(
        self,
        prepared: SimulatedModel,
        stage: Stage,
        folder: Path | None,
        resume: bool,
        history: list[Row],
        further: Sequence[Hook],
        progress: bool,
    ) -> list[Row]:
        """Train one stage; returns the log until its end."""
        config, loop = self.config, self.config.loop(stage.epochs)
        settings = f"{stage.name}, learning rate {config.lr}"
        classes, images = self.train.num_classes, len(self.held_out)
        start = float(history[-1].get("val_top1", 0.0)) if distributed.rank() == 0 else 0.0
        guard = IntegerGuard(stage.epochs, classes, images, settings, folder, start)
        hooks = [_Widths(stage), *self.shared_hooks(stage.epochs)]
        if config.freeze_oscillating:
            hooks.append(FreezeOscillating(config.freeze_oscillating, stage.epochs))
        result = fit(
            prepared,
            self.train,
            self.test,
            loop,
            out=folder,
            resume=resume,
            identity={**self.identity, "recipe": stage.recipe.to_json()},
            device=self.device,
            param_groups=self.parameter_groups,
            criterion=self.loss(loop),
            hooks=[*hooks, guard, *further],
            validation=self.held_out,
            score=guard.score,
            earlier=history,
            progress=progress,
        )
        return result.history

    def shared_hooks(self, epochs: int) -> list[Hook]:
        """Those that a float model has too."""
        images = calibration_split(self.train, STATISTICS_IMAGES, self.config.seed)
        batches = Loader(images, min(STATISTICS_BATCH, len(images)), device=self.device, drop_last=True)
        frozen = self.config.freeze_batch_norm
        return [BatchNormStatistics(epochs * (1 - frozen) if frozen else math.inf, batches)]

    def loss(self, loop: TrainConfig) -> Loss | None:
        """None is the loop's own cross-entropy."""
        if self.teacher is None:
            return None
        return Distillation(
            self.teacher, self.config.distillation, self.config.temperature, loop, self.device
        )

    def parameter_groups(self, model: nn.Module, weight_decay: float) -> ParameterGroups:
        """`decay_groups` of the network; scales and clips with rate and decay of their own."""
        assert self.config.lr is not None
        clips: list[nn.Parameter] = []
        scales: list[nn.Parameter] = []
        for module in model.modules():
            if isinstance(module, Quantizer):
                (clips if isinstance(module, PACT) else scales).extend(module.parameters())
        rate = self.config.lr * self.config.scale_lr
        return [
            *decay_groups(model, weight_decay, without={*clips, *scales}),
            {"params": scales, "lr": rate, "weight_decay": 0.0},
            {"params": clips, "lr": rate, "weight_decay": self.config.clip_decay},
        ]


class _Widths(Hook):
    """The stage's widths as columns of the log."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def end_epoch(self, model: nn.Module, row: Row) -> None:
        row.update(_widths(self.stage))


def _widths(stage: Stage) -> Row:
    schemes = {"weight_bits": stage.recipe.weights, "activation_bits": stage.recipe.activations}
    return {name: 32 if scheme is None else scheme.bits for name, scheme in schemes.items()}


def _first_input(batches: list[Any]) -> Tensor:
    if not batches:
        raise PtqxError("calibration: expected at least one batch, got none")
    first = batches[0]
    x: Tensor = first[0] if isinstance(first, (tuple, list)) else first
    return x[:1]
