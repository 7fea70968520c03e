"""VGG with batch normalization for 32x32 images (Simonyan and Zisserman, arXiv:1409.1556).

Names are torchvision's (`features.N`, `classifier.N`). Five max-pools leave one pixel of 512 channels,
so the head is 512-512-512-num_classes and the checkpoints published for CIFAR load unchanged.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from ..errors import PtqxError
from .checkpoint import load_weights, weights_file
from .registry import register

POOL = 0
LAYERS: dict[str, list[int]] = {
    "vgg_small": [128, 128, POOL, 256, 256, POOL, 512, 512, POOL],
    "vgg11_bn": [64, POOL, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512, POOL],
    "vgg13_bn": [64, 64, POOL, 128, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512, POOL],
    "vgg16_bn": [64, 64, POOL, 128, 128, POOL] + [256] * 3 + [POOL] + ([512] * 3 + [POOL]) * 2,
    "vgg19_bn": [64, 64, POOL, 128, 128, POOL] + [256] * 4 + [POOL] + ([512] * 4 + [POOL]) * 2,
}


class VGG(nn.Module):
    """Input (N, in_channels, 32, 32) float32, output logits (N, num_classes)."""

    def __init__(
        self, channels: list[int], num_classes: int, in_channels: int = 3, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.features = _features(channels, in_channels)
        self.classifier = nn.Sequential(
            _hidden_linear(512, 512),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            _hidden_linear(512, 512),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(512, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = torch.flatten(x, 1)
        return self.classifier(x)


class VGGSmall(nn.Module):
    """The same with one linear layer behind three max-pools, and so on 16 pixels."""

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.features = _features(LAYERS["vgg_small"], in_channels)
        self.classifier = nn.Linear(512 * 4 * 4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = torch.flatten(x, 1)
        return self.classifier(x)


def _features(channels: list[int], in_channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for out_channels in channels:
        if out_channels == POOL:
            layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
            continue
        conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        layers += [conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
        in_channels = out_channels
    return nn.Sequential(*layers)


def _hidden_linear(in_features: int, out_features: int) -> nn.Linear:
    layer = nn.Linear(in_features, out_features)
    # PyTorch's default shrinks the signal in every hidden layer, which costs the first epochs.
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer


def _vgg(
    name: str, num_classes: int, weights: str | os.PathLike[str] | None, in_channels: int, dropout: float
) -> VGG:
    if not 0 <= dropout < 1:
        raise PtqxError(f"dropout must be in [0, 1), got {dropout!r}")
    model = VGG(LAYERS[name], num_classes, in_channels, dropout)
    if weights is not None:
        load_weights(model, weights_file(name, weights))
    return model


@register
def vgg11_bn(
    num_classes: int = 100,
    weights: str | os.PathLike[str] | None = None,
    in_channels: int = 3,
    dropout: float = 0.5,
) -> VGG:
    """VGG-11 (configuration A): 8 convolutions, 9.80 M parameters for 100 classes.

    >>> tuple(vgg11_bn(num_classes=10).eval()(torch.zeros(1, 3, 32, 32)).shape)
    (1, 10)
    """
    return _vgg("vgg11_bn", num_classes, weights, in_channels, dropout)


@register
def vgg13_bn(
    num_classes: int = 100,
    weights: str | os.PathLike[str] | None = None,
    in_channels: int = 3,
    dropout: float = 0.5,
) -> VGG:
    """VGG-13 (configuration B): 10 convolutions."""
    return _vgg("vgg13_bn", num_classes, weights, in_channels, dropout)


@register
def vgg16_bn(
    num_classes: int = 100,
    weights: str | os.PathLike[str] | None = None,
    in_channels: int = 3,
    dropout: float = 0.5,
) -> VGG:
    """VGG-16 (configuration D): 13 convolutions."""
    return _vgg("vgg16_bn", num_classes, weights, in_channels, dropout)


@register
def vgg19_bn(
    num_classes: int = 100,
    weights: str | os.PathLike[str] | None = None,
    in_channels: int = 3,
    dropout: float = 0.5,
) -> VGG:
    """VGG-19 (configuration E): 16 convolutions."""
    return _vgg("vgg19_bn", num_classes, weights, in_channels, dropout)


@register
def vgg_small(
    num_classes: int = 10, weights: str | os.PathLike[str] | None = None, in_channels: int = 3
) -> VGGSmall:
    """VGG-Small: 6 convolutions of many channels, 4.66 M parameters for 10 classes.

    On CIFAR-10 the literature on few bits measures with it (Zhang et al., "LQ-Nets", ECCV 2018).

    >>> tuple(vgg_small().eval()(torch.zeros(1, 3, 32, 32)).shape)
    (1, 10)
    """
    model = VGGSmall(num_classes, in_channels)
    if weights is not None:
        load_weights(model, weights_file("vgg_small", weights))
    return model
