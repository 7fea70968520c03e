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
