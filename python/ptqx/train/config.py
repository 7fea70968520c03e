"""What a training run is: everything that changes its result."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ..errors import PtqxError, unknown_name
from .gradients import Accumulation, GradientFormat

AMP_MODES = ("auto", "bf16", "off")


@dataclass(frozen=True)
class TrainConfig:
    """Choices of one training run; two runs of the same config on the same machine give the same weights.

    Attributes:
        epochs: passes over the training set.
        batch_size: images per step, over all ranks together.
        optimizer: "sgd" (Nesterov) or "adamw".
        lr: peak learning rate.
        schedule: "cosine" (linear warm-up, then cosine to 0), "one-cycle" (Smith, arXiv:1708.07120)
            or "constant".
        warmup_epochs: length of the rise to the peak; None is an eighth of the epochs.
        weight_decay: on matrices and filters only; biases and batch-norm parameters have none.
        label_smoothing: share of the target spread over all classes.
        clip_norm: gradients are scaled down to this 2-norm; 0 turns it off.
        ema: decay per step of a moving average of the weights, which is then the result; 0 is off.
        amp: bfloat16 autocast: "auto" uses it where the device computes in bfloat16 natively.
        compile: run the model through torch.compile.
        augment: the data set's own random crops and flips.
        mixup: images and labels are mixed in pairs, by shares of a distribution Beta(mixup, mixup) (Zhang et
            al., arXiv:1710.09412); 0 is off. A teacher is asked about the mixed images (Beyer et al.,
            arXiv:2106.05237).
        val_split: fraction of the training set to hold out and evaluate after every epoch, in place of the
            test set.
        seed: of initialization, order, augmentation, dropout and stochastic rounding.
        gradients: what the processes send each other; None is float32.
        accumulation: micro-batches of a batch and how their gradients are summed up; None is one.
    """

    epochs: int = 16
    batch_size: int = 128
    optimizer: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    schedule: str = "cosine"
    warmup_epochs: float | None = None
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    clip_norm: float = 5.0
    ema: float = 0.0
    amp: str = "auto"
    channels_last: bool = True
    compile: bool = False
    augment: bool = True
    mixup: float = 0.0
    val_split: float = 0.0
    seed: int = 0
    gradients: GradientFormat | None = None
    accumulation: Accumulation | None = None

    def __post_init__(self) -> None:
        from .optimizer import OPTIMIZERS, SCHEDULES

        for kind, name, known in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("schedule", self.schedule, SCHEDULES),
            ("amp", self.amp, AMP_MODES),
        ):
            if name not in known:
                raise unknown_name(kind, name, known)
        for name, low, high in (
            ("epochs", 1, math.inf),
            ("batch_size", 1, math.inf),
            ("weight_decay", 0, math.inf),
            ("clip_norm", 0, math.inf),
            ("momentum", 0, 1),
            ("label_smoothing", 0, 1),
            ("mixup", 0, math.inf),
            ("ema", 0, 1),
            ("val_split", 0, 1),
        ):
            value = getattr(self, name)
            if not low <= value < high:
                raise PtqxError(f"{name} must be in [{low}, {high}), got {value}")
        if not 0 <= self.warmup <= self.epochs:
            raise PtqxError(f"warmup_epochs must be in [0, epochs], got {self.warmup_epochs}")
        if not 0 < self.lr < math.inf:
            raise PtqxError(f"lr must be positive and finite, got {self.lr}")

    def identity(self) -> dict[str, Any]:
        """The fields, by which a run is known again; without what it leaves to PyTorch's own gradients, and
        without mixing that it does not do.

        >>> TrainConfig(gradients=GradientFormat(1)).identity()["gradients"]
        {'bits': 1, 'rounding': 'nearest'}
        >>> "gradients" in TrainConfig().identity()
        False
        """
        plain = ("gradients", "accumulation", "mixup")
        return {name: value for name, value in asdict(self).items() if name not in plain or value}

    @property
    def warmup(self) -> float:
        """Epochs of warm-up."""
        return self.epochs / 8 if self.warmup_epochs is None else self.warmup_epochs

    def autocast(self, device: torch.device) -> torch.autocast:
        """The autocast context of this run on `device`."""
        native = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_has_bf16()
        enabled = self.amp == "bf16" or (self.amp == "auto" and native)
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def _cpu_has_bf16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
