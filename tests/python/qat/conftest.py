"""The digits, and a small network that knows them."""

from __future__ import annotations

import pytest
import torch
from ptqx.data import ImageDataset, Loader, calibration_split
from ptqx.models import cnn
from ptqx.train import TrainConfig, fit
from torch import Tensor, nn

Digits = tuple[ImageDataset, ImageDataset]


@pytest.fixture(scope="session")
def few(digits: Digits) -> Digits:
    """A part of them, for runs of which the accuracy does not matter."""
    return digits[0].subset(slice(0, 400)), digits[1].subset(slice(0, 120))


@pytest.fixture(scope="session")
def trained(digits: Digits) -> nn.Module:
    """Not to be changed."""
    torch.manual_seed(0)
    model = cnn(width=8)
    fit(model, *digits, TrainConfig(epochs=6, batch_size=64, amp="off"), device="cpu", progress=False)
    return model.eval()


@pytest.fixture(scope="session")
def calibration(digits: Digits) -> list[tuple[Tensor, Tensor]]:
    return list(Loader(calibration_split(digits[0], 128), 128))
