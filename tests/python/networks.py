"""Small networks for the tests, and random ones."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def with_statistics(model: nn.Module, seed: int = 0) -> nn.Module:
    """Batch norms as if trained: running statistics and affine parameters that are not 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.running_mean.normal_(0.0, 0.3, generator=generator)
            module.running_var.uniform_(0.3, 2.0, generator=generator)
            with torch.no_grad():
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0.0, 0.3, generator=generator)
    return model


class Residual(nn.Module):
    """Convolution, batch norm, an addition, and two kinds of shortcut."""

    def __init__(self, channels: int = 8, project: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Conv2d(channels, channels, 1) if project else nn.Identity()
        self.fc = nn.Linear(channels, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(x))
        y = F.relu(y + self.shortcut(x))
        return self.fc(y.mean((2, 3)))


class ConvNeXtBlock(nn.Module):
    """As in torchvision: between its permutes, layers are linear ones on [N, H, W, C]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.expand, self.reduce = nn.Linear(channels, 2 * channels), nn.Linear(2 * channels, channels)
        self.layer_scale = nn.Parameter(torch.linspace(0.5, 1.5, channels).reshape(channels, 1, 1))
        with torch.no_grad():
            self.norm.weight.uniform_(0.5, 1.5)
            self.norm.bias.normal_(0.0, 0.3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.reduce(F.gelu(self.expand(y))).permute(0, 3, 1, 2)
        return x + self.layer_scale * y


def double_convolution(channels: int, out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before in (channels, out):
        conv = nn.Conv2d(before, out, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Ronneberger et al., arXiv:1505.04597, with bilinear upsampling: what comes from the other side is
    cropped to what came up. `unpadded` as in the paper, where convolutions take a frame off."""

    def __init__(self, classes: int = 3, width: int = 4, unpadded: bool = False) -> None:
        super().__init__()
        self.first, self.second = double_convolution(3, width), double_convolution(width, 2 * width)
        self.bottom = double_convolution(2 * width, 2 * width)
        self.up2, self.up1 = double_convolution(4 * width, width), double_convolution(2 * width, width)
        self.last = nn.Conv2d(width, classes, 1)
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=not unpadded)
        for conv in self.modules():
            if unpadded and isinstance(conv, nn.Conv2d):
                conv.padding = (0, 0)
        with_statistics(self)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        second = self.second(F.max_pool2d(first, 2))
        x = self.up2(self._joined(self.bottom(F.max_pool2d(second, 2)), second))
        return self.last(self.up1(self._joined(x, first)))

    def _joined(self, below: Tensor, across: Tensor) -> Tensor:
        up = self.upsample(below)
        top, left = (across.size(2) - up.size(2)) // 2, (across.size(3) - up.size(3)) // 2
        across = across[:, :, top : top + up.size(2), left : left + up.size(3)]
        return torch.cat([across, up], dim=1)


class SuperResolution(nn.Module):
    """As ESPCN, Shi et al., arXiv:1609.05158: the image itself, of one channel, is made of r * r of them."""

    def __init__(self, factor: int = 3, width: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, width, 5, padding=2), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(width, factor * factor, 3, padding=1), nn.PixelShuffle(factor)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ControlFlow(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x * 2
        return x


class PartlyUntraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.middle = ControlFlow()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.middle(torch.relu(self.conv1(x)))
        return self.fc(self.conv2(x).mean((2, 3)))


ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.LeakyReLU, nn.PReLU, nn.Hardsigmoid, nn.Hardswish,
    nn.Sigmoid, nn.SiLU, nn.Tanh, nn.GELU, nn.Identity,
)  # fmt: skip


class RandomNetwork(nn.Module):
    """A chain of random stages, chosen by `seed`: every stage keeps height and width or shrinks them."""

    def __init__(self, seed: int, stages: int = 4) -> None:
        super().__init__()
        self.plan: list[str] = []
        self.stages = nn.ModuleList()
        choose = random.Random(seed)
        torch.manual_seed(seed)
        channels = choose.choice([1, 3, 4])
        self.in_channels = channels
        kinds = [
            "conv",
            "depthwise",
            "dilated",
            "grouped",
            "residual",
            "concat",
            "pool",
            "excite",
            "shuffle",
            "split",
            "convnext",
        ]
        for _ in range(stages):
            kind = choose.choice(kinds)
            self.plan.append(kind)
            stage, channels = _stage(kind, channels, choose)
            self.stages.append(stage)
        self.fc = nn.Linear(channels, choose.choice([1, 5, 17]))
        with_statistics(self, seed)

    def forward(self, x: Tensor) -> Tensor:
        for kind, stage in zip(self.plan, self.stages, strict=True):
            if kind == "residual":
                x = F.relu(stage(x) + x)
            elif kind == "concat":
                x = torch.cat([stage(x), F.avg_pool2d(x, 3, 1, 1), x], 1)
            elif kind == "excite":
                x = x * stage(x)
            elif kind == "shuffle":
                x = stage(x)
                n, c, h, w = x.shape
                x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
            elif kind in ("split", "shuffle"):
                a, b = stage(x).chunk(2, 1)
                x = torch.cat((b, F.relu(a)), 1)
            else:
                x = stage(x)
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def _stage(kind: str, channels: int, choose: random.Random) -> tuple[nn.Module, int]:
    out = choose.choice([2, 5, 8, 16])
    act = choose.choice(ACTIVATIONS)()
    if kind == "pool":
        pools = (nn.MaxPool2d(2, ceil_mode=True), nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(2, ceil_mode=True))
        return choose.choice((*pools, nn.AvgPool2d(3, 2, 1, count_include_pad=False))), channels
    if kind == "excite":
        return nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1), nn.Hardsigmoid()
        ), channels
    if kind == "convnext":
        return ConvNeXtBlock(channels), channels
    if kind == "depthwise":
        out = channels * choose.choice([1, 2])
        conv = nn.Conv2d(
            channels, out, choose.choice([3, 5]), choose.choice([1, 2]), 2, groups=channels, bias=False
        )
    elif kind == "dilated":
        conv = nn.Conv2d(channels, out, 3, padding=2, dilation=2)
    elif kind == "grouped":
        groups = 2 if channels % 2 == 0 else 1
        conv = nn.Conv2d(channels, 2 * out, choose.choice([1, 3]), padding=1, groups=groups)
        out = 2 * out
    elif kind in ("residual",):
        out = channels
        conv = nn.Conv2d(channels, out, 3, padding=1)
    elif kind in ("split", "shuffle"):
        out = 2 * out
        conv = nn.Conv2d(channels, out, 1)
    else:
        conv = nn.Conv2d(channels, out, choose.choice([1, 2, 3]), padding="same")
    if kind == "residual":
        return nn.Sequential(conv, nn.BatchNorm2d(out)), out
    total = channels * 2 + out if kind == "concat" else out
    return nn.Sequential(conv, nn.BatchNorm2d(out), act), total


def random_batches(shape: tuple[int, ...], count: int = 3, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(count)]
