"""The pipeline prune, distil, quantize, with what each step does to accuracy, size and speed."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from .. import graph, sparsity
from ..data import ImageDataset
from ..errors import PtqxError
from ..graph.compression import SUFFIX
from ..qat import GradualSparsity, KeepZeros, QATConfig, train_quantized
from ..quant import recipe
from ..sparsity import Pattern
from ..train import Distillation, Evaluation, Hook, TrainConfig, evaluate, fingerprint, fit
from ..train.loop import default_device
from . import formats
from .compare import calibration_batches, first_images
from .prune_table import PruneResult, PruneRow
from .rows import accuracy_columns
from .timing import interleaved, thread_count

FLOAT_FILE, INTEGER_FILE = "pruned.safetensors", "pruned.ptqx"
RISING = 0.6  # share of the epochs in which sparsity rises


def fine_tuning(epochs: int = 5, lr: float = 0.02, seed: int = 0) -> TrainConfig:
    """Training after pruning: a smaller rate than from scratch, and labels as they are."""
    return TrainConfig(epochs=epochs, lr=lr, label_smoothing=0.0, seed=seed)


@dataclass(frozen=True)
class PruneConfig:
    """What is removed, and how the network is trained and quantized afterwards.

    Attributes:
        share, of, importance, allocation, least, multiple: of `ptqx.sparsity.remove_channels`; a share of 0
            removes no channels.
        rounds: times that channels are removed and the rest trained; each removes the same share of what is
            left and trains for `train.epochs`.
        pattern: of weights held at zero, rising in the last round; None is none.
        train: of every round.
        distillation: share of the loss that comes from the unpruned network's logits; 0 is off.
        temperature: of distillation.
        recipe: how the result is quantized.
        qat: trains on as integers; None quantizes after training.
    """

    share: float = 0.5
    of: str = "parameters"
    importance: str = "magnitude"
    allocation: str = "global"
    least: float = 0.1
    multiple: int = 8
    rounds: int = 1
    pattern: Pattern | None = None
    train: TrainConfig = field(default_factory=fine_tuning)
    distillation: float = 0.9
    temperature: float = 4.0
    recipe: str = "int8"
    qat: QATConfig | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise PtqxError(f"share must be in [0, 1), got {self.share}")
        if not self.share and self.pattern is None:
            raise PtqxError("nothing to prune: give a share of channels, or a pattern of weights")
        if self.share and self.pattern is not None and self.pattern.of and self.multiple % self.pattern.of:
            raise PtqxError(
                f"multiple must be a multiple of {self.pattern.of}, so that {self.pattern} finds its "
                f"neighbours in what is left of the layers' channels, got {self.multiple}"
            )
        if self.rounds < 1:
            raise PtqxError(f"rounds must be at least 1, got {self.rounds}")
        if not 0 <= self.distillation <= 1:
            raise PtqxError(f"distillation must be in [0, 1], got {self.distillation}")
        recipe(self.recipe)

    @property
    def share_per_round(self) -> float:
        """Of what is left: all rounds together remove `share`."""
        return float(1 - (1 - self.share) ** (1 / self.rounds))


def prune(
    model: nn.Module,
    train: ImageDataset,
    test: ImageDataset,
    config: PruneConfig | None = None,
    *,
    out: str | Path,
    resume: bool = True,
    batch_size: int = 64,
    threads: int | None = None,
    calibration: int = 1024,
    seconds: float = 3.0,
    progress: bool = True,
) -> PruneResult:
    """Remove channels (and hold weights at zero), train what is left with the float network as its teacher,
    quantize it, and measure every step, beside the unpruned network quantized in the same way.

    Args:
        model: a trained float CNN; it is not changed.
        out: folder for pruned.safetensors, pruned.ptqx, and a folder for each round of training, from which
            an interrupted call continues.
        batch_size: images at a time when timing.
        calibration: training images for the ranges of activations.
        seconds: time for each latency.

    Raises:
        PtqxError: what `remove_channels`, `fit` and `quantize` raise.
        ptqx.train.Interrupted: Ctrl-C or SIGTERM during training; the same call continues.
    """
    chosen = config or PruneConfig()
    example = first_images(test, batch_size)
    batches = calibration_batches(train, calibration, chosen.train.seed)
    run = _Pipeline(
        copy.deepcopy(model).eval(), train, test, chosen, Path(out), example, batches, resume, progress
    )
    with thread_count(threads) as used:
        narrow = run.execute()
        rows = run.timed_rows(seconds)
    return PruneResult(rows, narrow, run.integer, len(example), used)


@dataclass(frozen=True, eq=False)
class _Step:
    name: str
    execution: str
    network: nn.Module  # the float network whose parameters and MACs count
    evaluation: Evaluation
    zeros: float
    size: int
    timed: nn.Module | None
    compressed_size: int | None = None


@dataclass(eq=False)
class _Pipeline:
    """What the steps share; `steps` fills up, `integer` is the last network quantized."""

    model: nn.Module
    train: ImageDataset
    test: ImageDataset
    config: PruneConfig
    out: Path
    example: Tensor
    batches: list[Tensor]
    resume: bool
    progress: bool
    steps: list[_Step] = field(default_factory=list)
    integer: Any = None

    def execute(self) -> nn.Module:
        """All steps; the pruned float network."""
        self._float_step("float", self.model, self.out / "float.safetensors", timed=True)
        whole = graph.quantize(self.model, self.batches, self.config.recipe)
        self._integer_step(f"{self.config.recipe}, unpruned", self.model, whole, self.out / "unpruned.ptqx")
        narrow = self.model
        for number in range(1, self.config.rounds + 1):
            narrow = self._round(narrow, number)
        name = f"{self.config.recipe}, pruned" + (" and trained" if self.config.qat is not None else "")
        self._integer_step(name, narrow, self._quantized(narrow), self.out / INTEGER_FILE)
        return narrow

    def _round(self, model: nn.Module, number: int) -> nn.Module:
        config, last = self.config, number == self.config.rounds
        suffix = f" {number}" if config.rounds > 1 else ""
        narrow = copy.deepcopy(model)
        if config.share:
            removal = sparsity.remove_channels(
                model,
                self.example[:1],
                config.share_per_round,
                config.of,
                config.importance,
                config.allocation,
                config.least,
                config.multiple,
            )
            narrow = removal.model
            if self.progress:
                tqdm.write(str(removal))
            self._float_step(f"channels removed{suffix}", narrow, self.out / "removed.safetensors")
        self._fit(narrow, number, last)
        self._float_step(f"trained{suffix}", narrow, self.out / FLOAT_FILE, timed=last)
        return narrow

    def _fit(self, model: nn.Module, number: int, last: bool) -> None:
        config, loop = self.config, self.config.train
        hooks: list[Hook] = []
        if last and config.pattern is not None:
            weights = sparsity.layer_weights(model, self.example[:1])
            hooks = [GradualSparsity(weights, config.pattern, 0.0, RISING * loop.epochs)]
        criterion = None
        if config.distillation:
            share, temperature = config.distillation, config.temperature
            criterion = Distillation(self.model, share, temperature, loop, default_device())
        plan = {key: value for key, value in asdict(config).items() if key not in ("train", "recipe", "qat")}
        fit(
            model,
            self.train,
            self.test,
            loop,
            out=self.out / f"round-{number}",
            resume=self.resume,
            identity={
                "prune": json.dumps(plan),
                "dataset": self.train.name,
                "start": fingerprint(model),
                "teacher": fingerprint(self.model),
            },
            criterion=criterion,
            hooks=hooks,
            progress=self.progress,
        )
        model.eval().cpu()

    def _quantized(self, model: nn.Module) -> graph.IntegerModel:
        if self.config.qat is None:
            return graph.quantize(model, self.batches, self.config.recipe)
        simulated = train_quantized(
            model,
            self.config.recipe,
            self.train,
            self.test,
            self.config.qat,
            self.batches,
            out=self.out / "qat",
            resume=self.resume,
            teacher=self.model if self.config.qat.distillation else None,
            hooks=[KeepZeros()],
            progress=self.progress,
        )
        return graph.convert(simulated)

    def _float_step(self, name: str, model: nn.Module, file: Path, timed: bool = False) -> None:
        sparsity.save(model, file)
        zeros, size = sparsity.zero_share(model), file.stat().st_size
        network = copy.deepcopy(model).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        evaluation = evaluate(network, self.test)
        module = formats.compiled(network, self.example)[0] if timed else None
        self.steps.append(_Step(name, "float", model, evaluation, zeros, size, module))

    def _integer_step(self, name: str, model: nn.Module, integer: graph.IntegerModel, file: Path) -> None:
        file, _ = formats.integer_file(file.stem, integer, file.parent)
        packed = file
        if file.suffix == ".ptqx":
            packed = file.with_name(f"{file.name}{SUFFIX}")
            graph.save(integer, packed)
        self.integer = integer
        try:
            module: nn.Module = graph.compile(integer, self.example, partial=True)
        except PtqxError:  # an operation that the engine has not
            module = integer
        self.steps.append(
            _Step(
                name,
                "integer",
                model,
                evaluate(module, self.test),
                sparsity.zero_share(integer),
                file.stat().st_size,
                module,
                packed.stat().st_size,
            )
        )

    def timed_rows(self, seconds: float) -> list[PruneRow]:
        calls = {step.name: _call(step.timed, self.example) for step in self.steps if step.timed is not None}
        with torch.no_grad():
            latencies = interleaved(calls, seconds=seconds)
        return [self._row(step, latencies.get(step.name)) for step in self.steps]

    def _row(self, step: _Step, latency: Any) -> PruneRow:
        cost = sparsity.cost(step.network, self.example[:1])
        columns = accuracy_columns(self.steps[0].evaluation, step.evaluation)
        return PruneRow(
            step=step.name,
            execution=step.execution,
            top1=columns["top1"],
            drop=columns["drop"],
            drop_ci95=columns["drop_ci95"],
            parameters=cost.parameters,
            zeros=100 * step.zeros,
            macs=cost.macs,
            size_bytes=step.size,
            compressed_bytes=step.compressed_size,
            latency_ms=None if latency is None else latency.median_ms,
        )


def _call(module: nn.Module, x: Tensor) -> Any:
    return lambda: module(x)
