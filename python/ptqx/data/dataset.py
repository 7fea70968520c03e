"""A whole image set in memory, as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import PtqxError


@dataclass(frozen=True)
class Augmentation:
    """Random crop after reflecting `pad` pixels on every side; a mirror image half of the time if `flip`."""

    pad: int
    flip: bool


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Images and labels of one split.

    Attributes:
        images: uint8, (N, C, H, W).
        labels: int64, (N,).
        classes: class names; their number is `num_classes`.
        mean, std: per channel, of pixels scaled to [0, 1].
        augmentation: what `Loader(augment=True)` does to these images.

    >>> images = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    >>> data = ImageDataset("zeros", images, torch.zeros(4, dtype=torch.int64), ("zero",), (0.5,), (0.25,))
    >>> len(data), data.num_classes, data.normalize(images).unique().item()
    (4, 1, -2.0)
    """

    name: str
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation = Augmentation(pad=0, flip=False)

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.dim() != 4:
            raise PtqxError(
                f"{self.name}: images must be uint8 (N, C, H, W), "
                f"got {self.images.dtype} {tuple(self.images.shape)}"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise PtqxError(
                f"{self.name}: labels must be int64 ({len(self.images)},), "
                f"got {self.labels.dtype} {tuple(self.labels.shape)}"
            )
        if not len(self.mean) == len(self.std) == self.images.shape[1]:
            raise PtqxError(
                f"{self.name}: mean and std must have one value for each of {self.images.shape[1]} channels"
            )
        if len(self) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < self.num_classes:
            raise PtqxError(
                f"{self.name}: labels must be in [0, {self.num_classes}), got up to {int(self.labels.max())}"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)"""
        c, h, w = self.images.shape[1:]
        return c, h, w

    def normalize(self, images: Tensor) -> Tensor:
        """(images / 255 - mean) / std per channel: uint8 (N, C, H, W) to float32 of the same layout."""
        mean = torch.tensor(self.mean, device=images.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(-1, 1, 1)
        return images.to(torch.float32).div_(255).sub_(mean).div_(std)

    def subset(self, index: Tensor | Sequence[int] | slice) -> ImageDataset:
        """The images at `index`, in that order."""
        if not isinstance(index, slice):
            index = torch.as_tensor(index)
        return replace(self, images=self.images[index], labels=self.labels[index])


def calibration_split(train: ImageDataset, n: int = 1024, seed: int = 0) -> ImageDataset:
    """`n` images drawn without replacement from the training set, the same ones for the same seed.

    All of them if there are fewer than `n`.
    """
    if n < 1:
        raise PtqxError(f"n must be at least 1, got {n}")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    return train.subset(order[:n])


def split(dataset: ImageDataset, fraction: float, seed: int = 0) -> tuple[ImageDataset, ImageDataset]:
    """Hold out `fraction` of the images: (rest, held out), the same ones for the same seed."""
    held_out = round(len(dataset) * fraction)
    if not 0 < held_out < len(dataset):
        raise PtqxError(f"fraction must leave images on both sides of {len(dataset)}, got {fraction!r}")
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))
    return dataset.subset(order[held_out:]), dataset.subset(order[:held_out])
