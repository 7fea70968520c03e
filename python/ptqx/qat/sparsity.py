"""Weights that are held at zero while the others train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PtqxError
from ..sparsity import Pattern, apply_masks, zero_masks
from ..train import Hook


class KeepZeros(Hook):
    """What is 0 when training begins stays 0, in float and in quantization-aware training.

    >>> model = nn.Linear(2, 1)
    >>> _ = model.weight.data.copy_(torch.tensor([[0.0, 1.0]]))
    >>> hook = KeepZeros()
    >>> hook.begin_step(model, 0.0); _ = model.weight.data.add_(1.0); hook.end_step(model, 0.1)
    >>> model.weight.tolist()
    [[0.0, 2.0]]
    """

    def __init__(self) -> None:
        self.masks: dict[str, Tensor] | None = None

    def identity(self) -> dict[str, Any]:
        return {"keep_zeros": True}

    def begin_step(self, model: nn.Module, position: float) -> None:
        if self.masks is None:
            self.masks = zero_masks(model)

    def end_step(self, model: nn.Module, position: float) -> None:
        apply_masks(model, self.masks or {})

    def finish(self, model: nn.Module) -> None:
        """A moving average of weights still holds some of what they were before."""
        apply_masks(model, self.masks or {})


class GradualSparsity(KeepZeros):
    """Sparsity that rises while the network trains, by the cubic schedule of Zhu and Gupta 2017
    (arXiv:1710.01878):

    s(t) = s_end * (1 - (1 - (t - begin) / (end - begin))^3)

    Every `every` epochs the masks are found anew, among the weights that are left; after `end` they rest.
    A pattern N:M comes all at once, at `begin`.

    Args:
        weights: paths of the parameters, `ptqx.sparsity.layer_weights(model, example)`.
        pattern: at the end.
        begin, end, every: in epochs.

    Raises:
        PtqxError: when the masks are found, if no layer has input channels for the pattern.
    """

    def __init__(
        self, weights: Sequence[str], pattern: Pattern, begin: float, end: float, every: float = 0.1
    ) -> None:
        super().__init__()
        if not 0 <= begin <= end or not every > 0:
            raise PtqxError(
                f"expected 0 <= begin <= end and every > 0, got begin={begin}, end={end}, every={every}"
            )
        self.weights = list(weights)
        self.pattern = pattern
        self.begin, self.end, self.every = begin, end, every
        self.updated = -1.0  # position of the last change of masks

    def identity(self) -> dict[str, Any]:
        schedule = {"begin": self.begin, "end": self.end, "every": self.every}
        return {"gradual_sparsity": {**asdict(self.pattern), **schedule, "weights": self.weights}}

    def share(self, position: float) -> float:
        """s(t).

        >>> hook = GradualSparsity([], Pattern(share=0.8), 1.0, 3.0)
        >>> [round(hook.share(t), 3) for t in (0.0, 1.0, 2.0, 3.0, 9.0)]
        [0.0, 0.0, 0.7, 0.8, 0.8]
        """
        done = 1.0 if self.end == self.begin else (position - self.begin) / (self.end - self.begin)
        rest = 1 - min(max(done, 0.0), 1.0)
        return self.pattern.share * (1 - rest**3)

    def begin_step(self, model: nn.Module, position: float) -> None:
        super().begin_step(model, position)
        last = min(position, self.end)
        due = self.updated < self.begin or last - self.updated >= self.every or last == self.end
        if position < self.begin or self.updated >= self.end or not due:
            return
        self._find_masks(model, position)
        self.updated = position

    def finish(self, model: nn.Module) -> None:
        if self.updated < self.end:  # the last step began before it
            self._find_masks(model, self.end)
        super().finish(model)

    def state_dict(self) -> dict[str, Any]:
        return {"updated": self.updated}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updated = float(state["updated"])

    @torch.no_grad()
    def _find_masks(self, model: nn.Module, position: float) -> None:
        share = self.share(position)
        if not self.pattern.of and share == 0:
            return
        self.pattern.check(model.get_parameter(path) for path in self.weights)
        pattern = self.pattern if self.pattern.of else replace(self.pattern, share=share)
        self.masks = {path: pattern.mask(model.get_parameter(path)) for path in self.weights}
        apply_masks(model, self.masks)
