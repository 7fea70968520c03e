"""A small CNN for the embedded 8x8 digits: trains in seconds, has every layer that matters."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from .checkpoint import load_weights, weights_file
from .registry import register


class CNN(nn.Module):
    """Three times conv-bn-relu, max-pool after the second, global average, linear.

    Input (N, in_channels, H, W) float32 with H, W >= 2; output logits (N, num_classes).
    """

    def __init__(self, num_classes: int, in_channels: int, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_conv_bn_relu(in_channels, width),
            *_conv_bn_relu(width, 2 * width),
            nn.MaxPool2d(2),
            *_conv_bn_relu(2 * width, 4 * width),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(4 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.features(x))
        return self.classifier(torch.flatten(x, 1))


def _conv_bn_relu(in_channels: int, out_channels: int) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
    return conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)


@register
def cnn(
    num_classes: int = 10,
    weights: str | os.PathLike[str] | None = None,
    in_channels: int = 1,
    width: int = 16,
) -> CNN:
    """A small CNN for images of any size; `width` is the channel count of its first convolution.

    >>> tuple(cnn()(torch.zeros(2, 1, 8, 8)).shape)
    (2, 10)
    """
    model = CNN(num_classes, in_channels, width)
    if weights is not None:
        load_weights(model, weights_file("cnn", weights))
    return model
