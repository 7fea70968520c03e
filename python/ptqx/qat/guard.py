"""The integer model, evaluated after every epoch: a run that collapses stops, the best epoch is kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .. import graph
from ..errors import PtqxError
from ..graph import IntegerModel, SimulatedModel
from ..train import Hook, Row, distributed

BEST = "best.ptqx"
CHOICE = 3  # the last third of the epochs
FALL = 0.5  # of the last epoch's accuracy, of training's: less than that is a collapse
ABOVE_CHANCE = 3.0  # times chance: what must have been reached before a fall can be told
AT_CHANCE = 1.5  # times chance: nothing has been learned
COUNTS = ("epochs", "top1", "best_top1", "kept_epoch")


def integer_of(model: nn.Module) -> tuple[IntegerModel, nn.Module]:
    """What a simulated model becomes, and the module that runs it: the engine, or the integer graph itself
    where the engine has no such operation.

    Raises:
        PtqxError: the integer model does not compute what the simulated one does, naming the layer.
    """
    assert isinstance(model, SimulatedModel)
    integer = graph.convert(model)
    try:
        return integer, graph.compile(integer, torch.zeros(1, *integer.graph.input_shape))
    except PtqxError:
        return integer, integer


class IntegerGuard(Hook):
    """Watches the integer model on the held-out images (`val_top1` in the log).

    Kept is, of the last third of the epochs, the latest whose accuracy is within one standard error of the
    best: closer than that the images can't tell epochs apart, and later ones have been trained for longer.
    (Over the whole run the best would often be the first: a float model that was trained on these images
    knows them by heart, and every epoch without them loses some of that.) It is in `OUT/best.ptqx`, and the
    model ends with its weights. A collapse raises a PtqxError that says what to do: less than half of the
    last epoch's accuracy or of training's, or nothing above chance: after two epochs, or after one if there
    was more at the start.

    Args:
        epochs: of the run.
        classes: of the data set, for the accuracy of guessing.
        images: held out.
        settings: what the message says about the run: stage, learning rate.
        start: accuracy on them before the first epoch, on rank 0.
        folder: for best.ptqx; None writes nothing.
    """

    def __init__(
        self, epochs: int, classes: int, images: int, settings: str, folder: Path | None, start: float = 0.0
    ) -> None:
        self.undecided = epochs - math.ceil(epochs / CHOICE)
        self.chance = 100.0 / classes
        self.images = images
        self.settings = settings
        self.folder = folder
        self.start = start
        self.top1 = 0.0  # of the last epoch
        self.best_top1 = 0.0  # of those to choose from
        self.kept_epoch = 0
        self.kept: dict[str, Tensor] = {}
        self.epochs = 0
        self._integer: IntegerModel | None = None

    def score(self, model: nn.Module) -> nn.Module:
        """The module whose accuracy counts."""
        self._integer, module = integer_of(model)
        return module

    def end_epoch(self, model: nn.Module, row: Row) -> None:
        device = next(model.parameters()).device
        top1, start = distributed.all_sum([row.get("val_top1", 0.0), self.start], device)
        self.epochs += 1
        self._require_alive(row, top1, start)
        self.top1 = top1
        if self.epochs > self.undecided:
            self.best_top1 = max(self.best_top1, top1)
            if top1 < self.best_top1 - self._standard_error():
                return
        self.kept_epoch = int(row["epoch"])
        self.kept = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        if self.folder is not None and self._integer is not None:
            graph.save(self._integer, self.folder / BEST)

    def finish(self, model: nn.Module) -> None:
        if distributed.world_size() > 1:
            for tensor in self.kept.values():
                dist.broadcast(tensor, 0)
        model.load_state_dict(self.kept)

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in (*COUNTS, "kept")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in COUNTS:
            setattr(self, name, state[name])
        self.kept = {name: tensor.clone() for name, tensor in state["kept"].items()}

    def _standard_error(self) -> float:
        """Of the best accuracy, in percent points."""
        share = self.best_top1 / 100
        return 100 * math.sqrt(share * (1 - share) / self.images)

    def _require_alive(self, row: Row, top1: float, start: float) -> None:
        trained, known = row["train_top1"], ABOVE_CHANCE * self.chance
        if trained > known and top1 < FALL * trained:
            what = f"while training reaches {trained:.1f} %: its batch norm statistics or scales are off"
        elif self.top1 > known and top1 < FALL * self.top1:
            what = f"after {self.top1:.1f} % in the epoch before"
        elif (self.epochs >= 2 or start > known) and max(top1, trained) < AT_CHANCE * self.chance:
            what = f"and training {trained:.1f} %: no better than guessing ({self.chance:.1f} %)"
        else:
            return
        kept = f"; epoch {self.kept_epoch} is in {self.folder / BEST}" if self.kept and self.folder else ""
        raise PtqxError(
            f"training collapsed in epoch {row['epoch']} ({self.settings}): the integer model gets "
            f"{top1:.1f} % of {self.images} held-out images right, {what}. Lower the learning rate, "
            f"lower the bits in steps (progressive), or use more bits{kept}"
        )
