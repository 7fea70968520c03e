"""Batches of a data set in memory: shuffling, cropping and mirroring are one gather per batch."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import PtqxError
from .dataset import ImageDataset


class Loader:
    """Iterable over (x, y): x float32 (n, C, H, W) normalized, y int64 (n,).

    The order and the augmentation depend on (seed, epoch, batch) only. `epoch` counts up with every pass, so
    epochs differ; set it to repeat or resume one, and `start` (for one pass) to leave out its first batches.
    Under data parallel training every rank takes its share, `batch_size / world_size`, of each batch.

    With `mixup` every image is mixed with another one of the batch, lambda * x + (1 - lambda) * x', lambda of
    a distribution Beta(mixup, mixup), and y is float32 (n, classes), the shares of both labels (Zhang et al.,
    arXiv:1710.09412).

    >>> from .catalog import load
    >>> loader = Loader(load("digits", split="test"), batch_size=100)
    >>> len(loader), [tuple(x.shape) for x, _ in loader][-1]
    (4, (60, 1, 8, 8))
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batch_size: int = 256,
        shuffle: bool = False,
        augment: bool = False,
        seed: int = 0,
        device: torch.device | str = "cpu",
        *,
        channels_last: bool = True,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        mixup: float = 0.0,
    ) -> None:
        if not 0 <= mixup < math.inf:
            raise PtqxError(f"mixup must be in [0, inf), got {mixup}")
        if batch_size < 1:
            raise PtqxError(f"batch_size must be at least 1, got {batch_size}")
        if not 0 <= rank < world_size or batch_size % world_size:
            raise PtqxError(
                f"batch_size {batch_size} must be a multiple of world_size {world_size} (rank {rank})"
            )
        if augment and dataset.augmentation.pad >= min(dataset.image_shape[1:]):
            raise PtqxError(
                f"{dataset.name}: augmentation pad must be smaller than the image {dataset.image_shape}"
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.augment = augment
        self.seed = seed
        self.device = torch.device(device)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.drop_last = drop_last
        self.rank = rank
        self.world_size = world_size
        self.mixup = mixup
        self.epoch = 0
        self.start = 0
        self._images = dataset.images.to(self.device)
        self._labels = dataset.labels.to(self.device)

    @property
    def images(self) -> Tensor:
        """All images, uint8 (N, C, H, W), in the data set's order."""
        return self._images

    def __len__(self) -> int:
        batches, rest = divmod(len(self.dataset), self.batch_size)
        return batches + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch, start = self.epoch, self.start
        self.epoch, self.start = epoch + 1, 0
        order = torch.arange(len(self.dataset))
        if self.shuffle:
            order = torch.randperm(len(order), generator=_generator(self.seed, epoch))
        return (self._batch(order, epoch, batch) for batch in range(start, len(self)))

    def _batch(self, order: Tensor, epoch: int, batch: int) -> tuple[Tensor, Tensor]:
        index = order[batch * self.batch_size : (batch + 1) * self.batch_size]
        rows, columns = self._crops(len(index), _generator(self.seed, epoch, batch))
        mine = slice(self.rank, None, self.world_size)
        index, rows, columns = (t[mine].to(self.device) for t in (index, rows, columns))
        # The indexed axes come first, (n, H, W, C): already channels_last.
        pixels = self._images[index[:, None, None], :, rows[:, :, None], columns[:, None, :]]
        x = self.dataset.normalize(pixels.permute(0, 3, 1, 2)).contiguous(memory_format=self.memory_format)
        if not self.mixup:
            return x, self._labels[index]
        return self._mixed(x, self._labels[index], (self.seed, epoch, batch, self.rank))

    def _mixed(self, x: Tensor, y: Tensor, key: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        random = np.random.default_rng(key)
        share = random.beta(self.mixup, self.mixup, len(x)).astype(np.float32)
        shares, partner = (
            torch.from_numpy(array).to(x.device) for array in (share, random.permutation(len(x)))
        )
        labels = F.one_hot(y, self.dataset.num_classes).float()
        of_image = shares[:, None, None, None]
        mixed = torch.lerp(x[partner], x, of_image).contiguous(memory_format=self.memory_format)
        return mixed, torch.lerp(labels[partner], labels, shares[:, None])

    def _crops(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Source rows (n, H) and columns (n, W) of every output pixel."""
        _, height, width = self.dataset.image_shape
        rows, columns = torch.arange(height).expand(n, -1), torch.arange(width).expand(n, -1)
        if not self.augment:
            return rows, columns
        pad, flip = self.dataset.augmentation.pad, self.dataset.augmentation.flip
        offset = torch.randint(-pad, pad + 1, (2, n, 1), generator=generator)
        if flip:
            mirrored = torch.rand(n, 1, generator=generator) < 0.5
            columns = torch.where(mirrored, columns.flip(1), columns)
        return _reflect(rows + offset[0], height), _reflect(columns + offset[1], width)


def _reflect(index: Tensor, size: int) -> Tensor:
    """-1 becomes 1 and `size` becomes size-2: the border pixel itself is not repeated."""
    index = index.abs()
    return torch.where(index < size, index, 2 * (size - 1) - index)


def _generator(*key: int) -> torch.Generator:
    """A generator seeded by the whole key."""
    seed = 0
    for part in key:
        seed = (seed * 0x9E3779B97F4A7C15 + part + 1) % 2**63
    return torch.Generator().manual_seed(seed)
