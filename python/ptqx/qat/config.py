"""What a run of quantization-aware training is, and what is chosen for those who do not choose."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ..errors import PtqxError
from ..quant import Recipe
from ..quant import recipe as find_recipe
from ..train import TrainConfig
from .stages import Stage, plan_stages, smallest_bits


@dataclass(frozen=True)
class QATConfig:
    """Choices of one run; None is chosen from the recipe's bits and the epochs, as the table says.

    | smallest width       | 5 to 8 bits | 4 bits | 3 bits | 2 bits |
    |----------------------|-------------|--------|--------|--------|
    | lr                   | 0.005       | 0.01   | 0.02   | 0.04   |
    | weight_decay         | 1e-4        | 1e-4   | 5e-5   | 3e-5   |
    | freeze_oscillating   | off         | off    | 0.02   | 0.02   |
    | progressive          | -           | -      | 4      | 4, 3   |

    Always: the rate falls to 0 by a cosine, without warm-up; ranges start from calibration; scales have no
    weight decay. Batch norm statistics rest in the last fifth of every stage, if the run has five epochs or
    more. The widths of `progressive` take a sixth of the epochs each, at least one; below six epochs there
    are none. Labels are smoothed by 0.1, and not at all with a teacher.

    Attributes:
        epochs: passes over the training set, of all stages together.
        batch_size, optimizer, schedule, momentum, warmup_epochs, clip_norm, ema, amp, channels_last, compile,
            augment, mixup, seed: of `ptqx.train.TrainConfig`.
        lr: peak learning rate of the weights, of every stage.
        scale_lr: that of scales, offsets and clips, as a multiple of `lr`.
        weight_decay: on matrices and filters only.
        clip_decay: weight decay of PACT's clips.
        label_smoothing: share of the target spread over all classes.
        distillation: share of the teacher in the loss (Hinton et al., arXiv:1503.02531); 0 is off.
        temperature: by which the logits of teacher and student are divided there.
        progressive: bits of the stages before the recipe's own, falling; () is none.
        freeze_oscillating: weights whose code changes direction more often than this, per step, rest on
            their average code (Nagel et al., ICML 2022). The threshold falls to it by a cosine from four
            times as much; 0 is off. It adds some percent to a step; depthwise networks gain from it at 4
            bits too.
        freeze_batch_norm: share of a stage, its end, in which batch norm statistics rest; 0 is off. Until
            then they are found anew before every evaluation, by 1,024 training images.
        val_split: share of the training set that is held out, to watch the integer model and to choose the
            best epoch by.

    Raises:
        PtqxError: a value out of its range.

    >>> chosen = QATConfig(epochs=12).resolved("w2a2")
    >>> chosen.lr, chosen.progressive, chosen.freeze_batch_norm
    (0.04, (4, 3), 0.2)
    """

    epochs: int = 5
    batch_size: int = 128
    optimizer: str = "sgd"
    lr: float | None = None
    scale_lr: float = 1.0
    schedule: str = "cosine"
    momentum: float = 0.9
    warmup_epochs: float = 0.0
    weight_decay: float | None = None
    clip_decay: float = 1e-4
    label_smoothing: float | None = None
    clip_norm: float = 5.0
    ema: float = 0.0
    distillation: float = 0.0
    temperature: float = 4.0
    progressive: tuple[int, ...] | None = None
    freeze_oscillating: float | None = None
    freeze_batch_norm: float | None = None
    val_split: float = 0.04
    amp: str = "auto"
    channels_last: bool = True
    compile: bool = False
    augment: bool = True
    mixup: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.progressive is not None:
            object.__setattr__(self, "progressive", tuple(self.progressive))
        for name in ("distillation", "freeze_oscillating", "freeze_batch_norm"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise PtqxError(f"{name} must be in [0, 1], got {value}")
        for name in ("scale_lr", "clip_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise PtqxError(f"{name} must be in [0, inf), got {getattr(self, name)}")
        if not 0 < self.temperature < math.inf:
            raise PtqxError(f"temperature must be positive and finite, got {self.temperature}")
        if not 0 < self.val_split < 1:
            raise PtqxError(
                f"val_split must be in (0, 1), got {self.val_split}: "
                "the integer model is watched on images held out from the training set"
            )
        self.loop(self.epochs)

    def resolved(self, recipe: str | Recipe) -> QATConfig:
        """The config without None: what is open is chosen for `recipe`.

        Raises:
            PtqxError: stages that do not fit the recipe or the epochs.
        """
        chosen = find_recipe(recipe)
        bits = smallest_bits(chosen)
        width = min(max(bits, 2), 5)
        progressive = {2: (4, 3), 3: (4,)}.get(width, ()) if self.epochs >= 6 else ()
        defaults: dict[str, Any] = {
            "lr": {2: 0.04, 3: 0.02, 4: 0.01, 5: 0.005}[width],
            "weight_decay": {2: 3e-5, 3: 5e-5}.get(width, 1e-4),
            "label_smoothing": 0.0 if self.distillation else 0.1,
            "progressive": progressive,
            "freeze_oscillating": 0.02 if width <= 3 else 0.0,
            "freeze_batch_norm": 0.2 if self.epochs >= 5 else 0.0,
        }
        resolved = replace(self, **{k: v for k, v in defaults.items() if getattr(self, k) is None})
        resolved.stages(chosen)
        return resolved

    def stages(self, recipe: Recipe) -> list[Stage]:
        """The stages of a resolved config: which recipe, and for how many epochs."""
        assert self.progressive is not None
        return plan_stages(recipe, self.progressive, self.epochs)

    def loop(self, epochs: int) -> TrainConfig:
        """The training loop's part, for one stage."""
        names = {f.name for f in fields(self)} & {f.name for f in fields(TrainConfig)}
        shared = {name: getattr(self, name) for name in names}
        given = {name: value for name, value in shared.items() if value is not None}
        warmup = self.warmup_epochs * epochs / max(1, self.epochs)
        return TrainConfig(**{**given, "epochs": epochs, "warmup_epochs": warmup, "val_split": 0.0})

    def identity(self) -> dict[str, Any]:
        """The fields, by which a result is known again; without mixing that is not done."""
        return {name: value for name, value in asdict(self).items() if name != "mixup" or value}

    def beyond_loop(self) -> dict[str, Any]:
        """What `loop` does not say: for the identity of a run."""
        known = {field.name for field in fields(TrainConfig)} - {"epochs", "val_split"}
        return {name: value for name, value in asdict(self).items() if name not in known}
