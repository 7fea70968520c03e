"""LeNet-5 (LeCun et al., 1998) with ReLU and max-pooling."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from ..errors import PtqxError
from .checkpoint import load_weights, weights_file
from .registry import register


class LeNet5(nn.Module):
    """Input (N, in_channels, 28, 28) or (…, 32, 32) float32, output logits (N, num_classes).

    28x28 images are padded by 2 in the first convolution, so both sizes reach the classifier as 16x5x5.
    """

    def __init__(self, num_classes: int, in_channels: int, image_size: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 6, kernel_size=5, padding=(32 - image_size) // 2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, kernel_size=5),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Linear(16 * 5 * 5, 120),
            nn.ReLU(inplace=True),
            nn.Linear(120, 84),
            nn.ReLU(inplace=True),
            nn.Linear(84, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = torch.flatten(x, 1)
        return self.classifier(x)


@register
def lenet5(
    num_classes: int = 10,
    weights: str | os.PathLike[str] | None = None,
    in_channels: int = 1,
    image_size: int = 28,
) -> LeNet5:
    """LeNet-5 for 28x28 or 32x32 images: 61,706 parameters for one channel and 10 classes.

    >>> tuple(lenet5()(torch.zeros(2, 1, 28, 28)).shape)
    (2, 10)
    """
    if image_size not in (28, 32):
        raise PtqxError(f"lenet5: image_size must be 28 or 32, got {image_size!r}")
    model = LeNet5(num_classes, in_channels, image_size)
    if weights is not None:
        load_weights(model, weights_file("lenet5", weights))
    return model
