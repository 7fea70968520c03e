"""The one training loop, for float models and for simulated ones (QAT) alike.

The position of a run is (epoch, step). Order and augmentation follow from it; the rest (weights, optimizer,
schedule, moving average, random generators) is in the checkpoint, so a run continues bit by bit from there.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from ..data import ImageDataset, Loader, split
from ..errors import PtqxError
from ..files import write_text
from . import distributed
from .checkpoint import CHECKPOINT, random_state, read_checkpoint, set_random_state, write_checkpoint
from .config import TrainConfig
from .convolution import SmallConvolutions
from .evaluation import Evaluation, evaluate
from .gradients import GradientPath
from .hooks import Hook
from .log import Log, Row
from .memory import keep_freed_memory
from .optimizer import OPTIMIZERS, SCHEDULES, ParameterGroups, decay_groups
from .signals import StopRequest


class Interrupted(Exception):
    """A signal stopped the run between two steps; the message says where and how to go on."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


@dataclass(frozen=True, eq=False)
class TrainResult:
    """What `fit` returns: one row per epoch after those of `earlier`, and the final model on the test set."""

    history: list[Row]
    evaluation: Evaluation


def fit(
    model: nn.Module,
    train_set: ImageDataset,
    test_set: ImageDataset,
    config: TrainConfig | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool = True,
    identity: dict[str, Any] | None = None,
    device: torch.device | str | None = None,
    param_groups: Callable[[nn.Module, float], ParameterGroups] = decay_groups,
    criterion: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
    hooks: Sequence[Hook] = (),
    validation: ImageDataset | None = None,
    score: Callable[[nn.Module], nn.Module] | None = None,
    earlier: Sequence[Row] = (),
    tensorboard: bool = False,
    progress: bool = True,
) -> TrainResult:
    """Train `model` in place; it ends with the last epoch's weights, or their moving average if `config.ema`.

    Args:
        out: folder of config.json, log.csv and checkpoint.pt; None keeps nothing and can't be resumed.
        resume: continue from the checkpoint in `out` if there is one; False starts anew over it.
        identity: further facts (model, data set) that must be equal for a checkpoint to be continued.
        device: by default the GPU if there is one.
        param_groups: (model, weight_decay) to the optimizer's groups.
        criterion: (logits, y, x) to a scalar loss; by default cross-entropy with `config.label_smoothing`.
        hooks: what else takes part, asked in this order.
        validation: further images to evaluate after every epoch, beside the test set.
        score: from the model to the module whose accuracy counts; by default the model itself.
        earlier: the log of the run that this one goes on from. Its rows come first, epochs count on from it,
            and so do order and augmentation.

    Raises:
        PtqxError: a checkpoint of another config, a model that does not take the images, a loss that is NaN,
            `config.gradients` of one process alone.
        Interrupted: Ctrl-C or SIGTERM; the checkpoint has been written.

    >>> from ptqx.data import load
    >>> from ptqx.models import cnn
    >>> config = TrainConfig(epochs=1, batch_size=64, warmup_epochs=0)
    >>> result = fit(cnn(width=4), load("digits"), load("digits", split="test"), config, progress=False)
    >>> [row["epoch"] for row in result.history]
    [1]
    """
    keep_freed_memory()
    place = torch.device(device or default_device())
    config = config or TrainConfig()
    with distributed.process_group(place), StopRequest() if out is not None else nullcontext() as stop:
        run = _Run(model, train_set, test_set, config, place, param_groups, criterion)
        run.hooks, run.earlier, run.score = hooks, list(earlier), score
        if validation is not None:
            run.monitored = {"val": validation, **run.monitored}
        run.stop = stop
        run.progress = progress and distributed.rank() == 0
        run.identity = {**(identity or {}), **config.identity(), "world_size": distributed.world_size()}
        for hook in hooks:
            run.identity |= hook.identity()
        if out is not None:
            run.open_folder(Path(out), resume, tensorboard)
        again = "it starts anew" if out is None else f"it continues from {Path(out) / CHECKPOINT}"
        with distributed.losing_nobody(f"Given the same command, {again}"):
            return run.execute()


def default_device() -> torch.device:
    """The GPU if there is one (this process's own under torchrun), else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


class _Run:
    def __init__(
        self,
        model: nn.Module,
        train_set: ImageDataset,
        test_set: ImageDataset,
        config: TrainConfig,
        device: torch.device,
        param_groups: Callable[[nn.Module, float], ParameterGroups],
        criterion: Callable[[Tensor, Tensor, Tensor], Tensor] | None,
    ) -> None:
        self.config = config
        self.device = device
        self.test_set = test_set
        self.monitored = {"test": test_set}
        if config.val_split:
            train_set, held_out = split(train_set, config.val_split, config.seed)
            self.monitored = {"val": held_out}
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self.model = model.to(device=device, memory_format=layout)  # type: ignore[call-overload]
        self.loader = Loader(
            train_set,
            min(config.batch_size, len(train_set)),
            shuffle=True,
            augment=config.augment,
            mixup=config.mixup,
            seed=config.seed,
            device=device,
            channels_last=config.channels_last,
            drop_last=True,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
        )
        _check_takes(self.model, train_set, device)
        self.criterion = criterion or self._cross_entropy
        self.hooks: Sequence[Hook] = ()
        self.score: Callable[[nn.Module], nn.Module] | None = None
        self.optimizer = OPTIMIZERS[config.optimizer](param_groups(self.model, config.weight_decay), config)
        self.scheduler = SCHEDULES[config.schedule](self.optimizer, config, len(self.loader))
        self.average = (
            AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True)
            if config.ema
            else None
        )
        self.gradients = GradientPath(self.model, config)
        self.epoch, self.step = 0, 0
        self.totals = [0.0, 0.0, 0.0]  # of this rank in this epoch: loss, right answers, images
        self.seconds = 0.0
        self.lr = config.lr  # of the last step
        self.evaluations: dict[str, Evaluation] = {}  # of the last epoch, on rank 0
        self.history: list[Row] = []
        self.earlier: list[Row] = []
        self.identity: dict[str, Any] = {}
        self.folder: Path | None = None
        self.log = Log(None, tensorboard=False)
        self.stop: StopRequest | None = None
        self.progress = True
        torch.manual_seed(config.seed + distributed.rank())

    # Files

    def open_folder(self, folder: Path, resume: bool, tensorboard: bool) -> None:
        """Continue the run that is in `folder`, or begin one."""
        self.folder = folder
        checkpoint = folder / CHECKPOINT
        if resume and checkpoint.is_file():
            self._load(checkpoint)
        if distributed.rank() == 0:
            for partial in folder.glob(".*.partial"):  # of a write that was killed
                partial.unlink()
            write_text(folder / "config.json", json.dumps(self.identity, indent=2) + "\n")
            self.log = Log(folder, tensorboard)

    def _save(self) -> None:
        own = {
            "totals": self.totals,
            "random": random_state(self.device),
            "gradients": self.gradients.state_dict(),
        }
        ranks = distributed.gather(own)
        if self.folder is None or distributed.rank() != 0:
            return
        state = {
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "lr": self.lr,
            "history": self.history,
            "ranks": ranks,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "hooks": [hook.state_dict() for hook in self.hooks],
        }
        write_checkpoint(self.folder / CHECKPOINT, self.identity, state)

    def _load(self, path: Path) -> None:
        state = read_checkpoint(path, self.identity)
        try:
            self._restore(state)
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise PtqxError(f"{path} is damaged ({reason}); --no-resume starts anew") from error

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        # The file is memory-mapped and the optimizer keeps what it is given, hence the copy.
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.scheduler.load_state_dict(state["scheduler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        for hook, hook_state in zip(self.hooks, state["hooks"], strict=True):
            hook.load_state_dict(hook_state)
        self.epoch, self.step = state["epoch"], state["step"]
        self.seconds, self.lr, self.history = state["seconds"], state["lr"], state["history"]
        own = state["ranks"][distributed.rank()]
        self.totals = own["totals"]
        set_random_state(own["random"], self.device)
        self.gradients.load_state_dict(own.get("gradients", {}))

    # Work

    def convolutions(self) -> AbstractContextManager[Any]:
        """How those of small images are computed: where torch.compile chooses, by its choice."""
        return nullcontext() if self.config.compile else SmallConvolutions()

    @property
    def epochs_before(self) -> int:
        """Epochs of the run that this one goes on from."""
        return int(self.earlier[-1]["epoch"]) if self.earlier else 0

    def execute(self) -> TrainResult:
        network = self.gradients.network()
        if self.config.compile:
            network = torch.compile(network)  # type: ignore[assignment]
        try:
            while self.epoch < self.config.epochs:
                self._train_epoch(network)
                # Saved before the evaluation, which can be repeated.
                self._save()
                self.history.append(self._row())
                if distributed.rank() == 0:
                    self.log.write(self.earlier + self.history)
                self.epoch, self.step, self.totals, self.seconds = self.epoch + 1, 0, [0.0, 0.0, 0.0], 0.0
        finally:
            self.log.close()
            self.gradients.close()
        if self.average is not None:
            self.model.load_state_dict(self.average.module.state_dict())
        for hook in self.hooks:
            hook.finish(self.model)
        evaluation = self.evaluations.get("test")
        if evaluation is None or self.hooks:
            evaluation = evaluate(self._scored(self.model), self.test_set)
        return TrainResult(self.earlier + self.history, evaluation)

    def _train_epoch(self, network: nn.Module) -> None:
        self.loader.epoch, self.loader.start = self.epochs_before + self.epoch, self.step
        network.train()
        began = time.monotonic() - self.seconds
        with tqdm(
            self.loader,
            total=len(self.loader),
            initial=self.step,
            desc=f"epoch {self.epochs_before + self.epoch + 1}/{self.epochs_before + self.config.epochs}",
            disable=not self.progress,
            mininterval=1.0,
        ) as bar:
            for x, y in bar:
                self._train_step(network, x, y)
                self.seconds = time.monotonic() - began
                bar.set_postfix(loss=f"{self.totals[0] / self.totals[2]:.3f}", refresh=False)
                self._stop_if_asked()

    def _train_step(self, network: nn.Module, x: Tensor, y: Tensor) -> None:
        for hook in self.hooks:
            hook.begin_step(self.model, self._position())
        self.optimizer.zero_grad(set_to_none=True)
        parts = self.gradients.parts(len(y))
        sums = [0.0, 0.0, 0.0]
        for number, part in enumerate(parts, start=1):
            with self.gradients.unsent(network, last=number == len(parts)):
                of_part = self._backward(network, x[part], y[part], share=len(y[part]) / len(y))
            sums = [a + b for a, b in zip(sums, of_part, strict=True)]
        self.gradients.step(self.optimizer)
        self.lr = self.optimizer.param_groups[0]["lr"]
        self.scheduler.step()
        self.step += 1
        for hook in self.hooks:
            hook.end_step(self.model, self._position())
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.totals = [a + b for a, b in zip(self.totals, sums, strict=True)]

    def _backward(self, network: nn.Module, x: Tensor, y: Tensor, share: float) -> list[float]:
        """Add the gradients of a micro-batch, `share` of its batch; its loss, right answers and images."""
        with self.convolutions(), self.config.autocast(self.device):
            logits = network(x)
        if not isinstance(logits, Tensor):
            given = type(logits).__name__
            raise PtqxError(f"{type(self.model).__name__} gives {given} in training, not a tensor of logits")
        with self.convolutions():  # of a teacher
            loss = self.criterion(logits.float(), y, x)
        value = loss.item()
        if not math.isfinite(value):
            raise PtqxError(
                f"training diverged: loss is {value} in epoch {self.epoch + 1}, step {self.step + 1}; "
                f"lower --lr (now {self.config.lr}) or lengthen the warm-up"
            )
        self.gradients.backward(loss * share)
        labels = y if y.dim() == 1 else y.argmax(dim=1)  # of mixed images: the larger share's
        right = (logits.argmax(dim=1) == labels).sum().item()
        return [value * len(y), right, len(y)]

    def _cross_entropy(self, logits: Tensor, y: Tensor, x: Tensor) -> Tensor:
        return F.cross_entropy(logits, y, label_smoothing=self.config.label_smoothing)

    def _stop_if_asked(self) -> None:
        if self.stop is None or not distributed.any_rank(bool(self.stop.received), self.device):
            return
        self._save()
        raise Interrupted(
            f"stopped in epoch {self.epoch + 1} after step {self.step}; the same command continues from "
            f"{self.folder and self.folder / CHECKPOINT}",
            self.stop.received,
        )

    def _position(self) -> float:
        """Epochs trained in this run."""
        return self.epoch + self.step / len(self.loader)

    def _row(self) -> Row:
        loss, right, images = distributed.all_sum(self.totals, self.device)
        row: Row = {
            "epoch": self.epochs_before + self.epoch + 1,
            "lr": self.lr,
            "train_loss": loss / images,
            "train_top1": 100 * right / images,
        }
        model = self.model if self.average is None else self.average.module
        for hook in self.hooks:
            hook.begin_evaluation(model)
        if distributed.rank() == 0:
            scored = self._scored(model)
            for name, data in self.monitored.items():
                evaluation = self.evaluations[name] = evaluate(scored, data)
                row |= {f"{name}_loss": evaluation.loss, f"{name}_top1": evaluation.top1}
        row["seconds"] = round(self.seconds, 2)
        row |= self.gradients.columns()
        for hook in self.hooks:
            hook.end_epoch(model, row)
        return row

    def _scored(self, model: nn.Module) -> nn.Module:
        return model if self.score is None else self.score(model)


def _check_takes(model: nn.Module, data: ImageDataset, device: torch.device) -> None:
    """Run one image, so that a wrong size or number of classes is said before training."""
    try:
        logits = evaluate(model, data.subset(slice(0, 1)), device=device).logits
    except RuntimeError as error:
        shape = "x".join(map(str, data.image_shape))
        raise PtqxError(
            f"{type(model).__name__} does not take {data.name}'s {shape} images: {str(error).splitlines()[0]}"
        ) from error
    if logits.shape[1] != data.num_classes:
        raise PtqxError(f"the model gives {logits.shape[1]} classes, {data.name} has {data.num_classes}")
