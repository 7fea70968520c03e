"""The loss against its formula, and what a teacher must be."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from ptqx.errors import PtqxError
from ptqx.train import Distillation, TrainConfig, fingerprint
from torch import nn

CPU = torch.device("cpu")


def test_loss_is_the_formula() -> None:
    torch.manual_seed(0)
    teacher = nn.Linear(6, 4)
    x, y = torch.randn(5, 6), torch.tensor([0, 1, 2, 3, 0])
    logits = torch.randn(5, 4, requires_grad=True)
    config = TrainConfig(amp="off", label_smoothing=0.1)
    got = Distillation(teacher, 0.7, 3.0, config, CPU)(logits, y, x)
    p, q = (teacher(x) / 3).softmax(1).detach(), (logits / 3).softmax(1)
    divergence = (p * (p.log() - q.log())).sum(1).mean()
    expected = 0.3 * F.cross_entropy(logits, y, label_smoothing=0.1) + 0.7 * 9 * divergence
    torch.testing.assert_close(got, expected)
    # Hinton et al., section 2: T times the difference of the softened distributions.
    (gradient,) = torch.autograd.grad(Distillation(teacher, 1.0, 3.0, config, CPU)(logits, y, x), logits)
    torch.testing.assert_close(gradient, 3 * (q - p) / 5)


def test_teacher_is_copied_and_rests() -> None:
    teacher = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5)).train()
    before = fingerprint(teacher)
    loss = Distillation(teacher, 1.0, 1.0, TrainConfig(amp="off"), CPU)
    x = torch.randn(8, 3)
    assert loss(x, torch.zeros(8, dtype=torch.int64), x).item() == pytest.approx(0, abs=1e-5)
    assert fingerprint(teacher) == before == fingerprint(loss.teacher) and teacher.training
    with torch.no_grad():
        teacher[0].weight.add_(1e-3)
    assert fingerprint(teacher) != before


def test_teacher_of_other_classes_is_an_error() -> None:
    loss = Distillation(nn.Linear(3, 7), 0.5, 1.0, TrainConfig(amp="off"), CPU)
    with pytest.raises(PtqxError, match=r"teacher: expected logits of shape \(2, 3\), got \(2, 7\)"):
        loss(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), torch.zeros(2, 3))
