"""Training and evaluation of float and simulated models."""

from .artifact import round_to_half, save_model
from .config import TrainConfig
from .distillation import SHARE, Distillation, fingerprint
from .evaluation import Evaluation, evaluate
from .gradients import Accumulation, GradientFormat
from .hooks import Hook
from .log import Row
from .loop import Interrupted, TrainResult, fit
from .optimizer import decay_groups

__all__ = [
    "SHARE",
    "Accumulation",
    "Distillation",
    "Evaluation",
    "GradientFormat",
    "Hook",
    "Interrupted",
    "Row",
    "TrainConfig",
    "TrainResult",
    "decay_groups",
    "evaluate",
    "fingerprint",
    "fit",
    "round_to_half",
    "save_model",
]
