"""ResNet for 32x32 images: 6n+2 layers, 16-32-64 channels (He et al., arXiv:1512.03385, section 4.2).

Names are those of the CIFAR model zoos: `conv1`, `bn1`, `layer1.0.conv1`, …, `layer2.0.downsample.0/1`, `fc`.
Checkpoints that say `linear` for the head or `shortcut` for the downsampling load too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import PtqxError, unknown_name
from ..files import read_tensors
from .checkpoint import load_weights, weights_file
from .registry import register


class SubsampleAndPad(nn.Module):
    """Shortcut A: every second pixel, new channels zero, half of them on either side. No parameters."""

    def __init__(self, new_channels: int) -> None:
        super().__init__()
        self.before = new_channels // 2
        self.after = new_channels - self.before

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))


def _downsample(shortcut: str, in_channels: int, out_channels: int) -> nn.Module:
    if shortcut == "A":
        return SubsampleAndPad(out_channels - in_channels)
    if shortcut == "B":
        conv = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=2, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(out_channels))
    raise unknown_name("shortcut", shortcut, ("A", "B"))


def _activation(name: str, channels: int) -> nn.Module:
    if name == "relu":
        return nn.ReLU(inplace=True)
    if name == "prelu":
        return nn.PReLU(channels)
    raise unknown_name("activation", name, ("relu", "prelu"))


class BasicBlock(nn.Module):
    """act2(bn2(conv2(act1(bn1(conv1(x))))) + shortcut(x))"""

    def __init__(self, in_channels: int, out_channels: int, shortcut: str, activation: str) -> None:
        super().__init__()
        stride = 1 if in_channels == out_channels else 2
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.act1 = _activation(activation, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.act2 = _activation(activation, out_channels)
        self.downsample = None if stride == 1 else _downsample(shortcut, in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.act1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.act2(out + identity)


class BiRealBlock(BasicBlock):
    """y = act1(bn1(conv1(x)) + shortcut(x)); act2(bn2(conv2(y)) + y)

    A shortcut over every convolution: what its binary inputs lose goes around it. Liu et al., "Bi-Real Net",
    ECCV 2018.
    """

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.act1(self.bn1(self.conv1(x)) + identity)
        return self.act2(self.bn2(self.conv2(out)) + out)


BLOCKS = {"basic": BasicBlock, "bireal": BiRealBlock}


class ResNet(nn.Module):
    """Input (N, in_channels, H, W) float32, 32x32 as published; output logits (N, num_classes)."""

    def __init__(
        self,
        blocks: int,
        num_classes: int,
        in_channels: int = 3,
        shortcut: str = "B",
        block: str = "basic",
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.act1 = _activation(activation, 16)
        self.layer1 = _stage(16, 16, blocks, shortcut, block, activation)
        self.layer2 = _stage(16, 32, blocks, shortcut, block, activation)
        self.layer3 = _stage(32, 64, blocks, shortcut, block, activation)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.register_load_state_dict_pre_hook(_rename_keys)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = torch.flatten(self.avgpool(x), 1)
        return self.fc(x)

    @staticmethod
    def canonical_key(key: str) -> str:
        """Our name for a key of another zoo."""
        return key.replace(".shortcut.", ".downsample.").replace("linear.", "fc.")


def _stage(
    in_channels: int, out_channels: int, blocks: int, shortcut: str, block: str, activation: str
) -> nn.Sequential:
    if block not in BLOCKS:
        raise unknown_name("block", block, BLOCKS)
    channels = [in_channels] + [out_channels] * blocks
    return nn.Sequential(*(BLOCKS[block](c, out_channels, shortcut, activation) for c in channels[:-1]))


def _rename_keys(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    for key in [key for key in state_dict if key.startswith(prefix)]:
        state_dict[prefix + ResNet.canonical_key(key[len(prefix) :])] = state_dict.pop(key)


def _resnet(
    blocks: int,
    num_classes: int,
    weights: str | os.PathLike[str] | None,
    in_channels: int,
    shortcut: str,
    block: str,
    activation: str,
) -> ResNet:
    model = ResNet(blocks, num_classes, in_channels, shortcut, block, activation)
    if weights is not None:
        file = weights_file(f"resnet{6 * blocks + 2}", weights)
        _check_block(file, block)
        load_weights(model, file)
    return model


def _check_block(file: Path, block: str) -> None:
    """Tensors do not show which block they were trained in; what `ptqx train` writes beside them does."""
    _, metadata = read_tensors(file)
    trained_in = metadata.get("block", "basic") if "model" in metadata else block
    if trained_in != block:
        raise PtqxError(f"{file}: weights for block={trained_in}, but the model has block={block}")


@register
def resnet20(
    num_classes: int = 10,
    weights: str | os.PathLike[str] | None = None,
    in_channels: int = 3,
    shortcut: str = "B",
    block: str = "basic",
    activation: str = "relu",
) -> ResNet:
    """ResNet-20; `shortcut` "B" (1x1 convolution) or "A" (subsample and pad, as in the paper).

    `block` "bireal" has a shortcut over every convolution, for binary networks; the parameters are the same.
    `activation` "prelu" lets a learned share of negative values through, one a channel (He et al.,
    arXiv:1502.01852): with "bireal", what the next signs are taken of is no longer cut off at 0.

    >>> sum(p.numel() for p in resnet20(shortcut="A").parameters())
    269722
    """
    return _resnet(3, num_classes, weights, in_channels, shortcut, block, activation)


@register
def resnet32(
    num_classes: int = 10,
    weights: str | os.PathLike[str] | None = None,
    in_channels: int = 3,
    shortcut: str = "B",
    block: str = "basic",
    activation: str = "relu",
) -> ResNet:
    """ResNet-32; see `resnet20`."""
    return _resnet(5, num_classes, weights, in_channels, shortcut, block, activation)


@register
def resnet56(
    num_classes: int = 10,
    weights: str | os.PathLike[str] | None = None,
    in_channels: int = 3,
    shortcut: str = "B",
    block: str = "basic",
    activation: str = "relu",
) -> ResNet:
    """ResNet-56; see `resnet20`."""
    return _resnet(9, num_classes, weights, in_channels, shortcut, block, activation)
