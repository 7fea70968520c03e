"""What takes part in a training run beside the loop itself."""

from __future__ import annotations

from typing import Any

from torch import nn

from .log import Row


class Hook:
    """Base of what `fit` asks at certain moments; a new one overrides those it needs.

    Every rank has its own; what they do to the model must be the same on all of them. `position` is the
    epochs that this run has trained, a fraction.
    """

    def identity(self) -> dict[str, Any]:
        """Plain values that must be the same where a run is continued."""
        return {}

    def begin_step(self, model: nn.Module, position: float) -> None:
        """Before a training step; the model is in train()."""

    def end_step(self, model: nn.Module, position: float) -> None:
        """After the optimizer's step."""

    def begin_evaluation(self, model: nn.Module) -> None:
        """Before an epoch's evaluation of `model` (the moving average, if there is one); on every rank. Where
        a run is continued from the end of an epoch, it is asked again."""

    def end_epoch(self, model: nn.Module, row: Row) -> None:
        """After the evaluation. `model` is what was evaluated (the moving average, if there is one), `row`
        its line of the log, to which columns may be added; losses and accuracies of evaluations are on rank
        0 only."""

    def finish(self, model: nn.Module) -> None:
        """After the last epoch and before the result is evaluated; may change the model."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values that a continued run needs; of rank 0."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; its tensors are to be copied."""
