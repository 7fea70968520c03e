"""Learning from a teacher's logits."""

from __future__ import annotations

import copy
import hashlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import PtqxError
from .config import TrainConfig

SHARE = 0.7  # of the teacher in the loss, for those who only say that there is one


class Distillation:
    """A loss, (logits, y, x) to a scalar: (1 - share) * CE(logits, y) + share * T^2 * KL(teacher || student).

    Both distributions are softmax(logits / T). The teacher sees the same augmented images, in eval() and
    under the run's autocast; a copy is kept, in the layout of the run.
    Hinton, Vinyals, Dean: "Distilling the knowledge in a neural network", 2015, arXiv:1503.02531.

    Args:
        share: of the teacher in the loss, in [0, 1].

    Raises:
        PtqxError: a share that is none; a teacher whose logits have another shape than the student's.

    >>> teacher = nn.Identity()
    >>> loss = Distillation(teacher, 1.0, 2.0, TrainConfig(amp="off"), torch.device("cpu"))
    >>> logits = torch.tensor([[1.0, 3.0]])
    >>> loss(logits, torch.tensor([0]), logits).item()
    0.0
    """

    def __init__(
        self, teacher: nn.Module, share: float, temperature: float, config: TrainConfig, device: torch.device
    ) -> None:
        if not 0 <= share <= 1:
            raise PtqxError(f"distillation must be in [0, 1], got {share}")
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self.teacher = copy.deepcopy(teacher).eval().requires_grad_(False)
        self.teacher.to(device=device, memory_format=layout)  # type: ignore[call-overload]
        self.share = share
        self.temperature = temperature
        self.label_smoothing = config.label_smoothing
        self.config = config
        self.device = device

    def __call__(self, logits: Tensor, y: Tensor, x: Tensor) -> Tensor:
        with torch.no_grad(), self.config.autocast(self.device):
            taught = self.teacher(x)
        if not isinstance(taught, Tensor) or taught.shape != logits.shape:
            got = tuple(taught.shape) if isinstance(taught, Tensor) else type(taught).__name__
            raise PtqxError(f"teacher: expected logits of shape {tuple(logits.shape)}, got {got}")
        log_student = F.log_softmax(logits / self.temperature, dim=1)
        log_teacher = F.log_softmax(taught.float() / self.temperature, dim=1)
        divergence = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
        loss = self.share * self.temperature**2 * divergence
        if self.share < 1:
            hard = F.cross_entropy(logits, y, label_smoothing=self.label_smoothing)
            loss = loss + (1 - self.share) * hard
        return loss


def fingerprint(model: nn.Module) -> str:
    """SHA-256 of names and values of a model's state: whether a continued run has the same teacher.

    >>> fingerprint(nn.Identity())[:8]
    'e3b0c442'
    """
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
