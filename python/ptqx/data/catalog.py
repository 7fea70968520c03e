"""Data sets by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import PtqxError, unknown_name
from ..torchvision_shim import import_torchvision
from .dataset import Augmentation, ImageDataset

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Source:
    """How to read a data set, and the numbers that go with it."""

    read: Callable[[Path, str, bool], tuple[Any, Any, Any]]  # images NHW or NHWC, labels, class names
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation


def _torchvision(class_name: str) -> Callable[[Path, str, bool], tuple[Any, Any, Any]]:
    def read(root: Path, split: str, download: bool) -> tuple[Any, Any, Any]:
        datasets = import_torchvision(f"dataset {class_name}").datasets
        kind = getattr(datasets, class_name)
        if not download:
            _check_files(datasets, kind, root)
        try:
            data = kind(root, train=split == "train", download=download)
        except Exception as error:  # network, permission, damaged archive: the remedy is the same
            raise PtqxError(
                f"{class_name} can't be read from or downloaded to {root}: {error}; "
                f"check the network and the folder, or name another with --data-root"
            ) from error
        return data.data, data.targets, data.classes

    return read


def _check_files(datasets: Any, kind: Any, root: Path) -> None:
    """Name the files of a torchvision data set that are missing or damaged."""
    check_integrity = datasets.utils.check_integrity
    if hasattr(kind, "train_list"):
        folder = root / kind.base_folder
        wanted = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
    else:
        folder = root / kind.__name__ / "raw"
        wanted = [(archive.removesuffix(".gz"), None) for archive, _ in kind.resources]
    missing = [name for name, _ in wanted if not (folder / name).is_file()]
    damaged = [
        name for name, md5 in wanted if name not in missing and not check_integrity(folder / name, md5)
    ]
    problems = [
        f"{what} {', '.join(files)}" for what, files in (("missing", missing), ("damaged", damaged)) if files
    ]
    if problems:
        raise PtqxError(
            f"{kind.__name__} is not whole in {folder}: {'; '.join(problems)}; "
            f"allow the download (no --no-download) or name another folder with --data-root"
        )


def _digits(root: Path, split: str, download: bool) -> tuple[Any, Any, Any]:
    """scikit-learn's 1,797 digits of 8x8 pixels; 360 of them, of every class its share, are the test images.

    Grey levels 0…16 become 0…255.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ModuleNotFoundError as error:
        raise PtqxError("dataset 'digits' needs scikit-learn: pip install 'ptqx[study]'") from error
    digits = load_digits()
    labels = digits.target
    train, test = train_test_split(np.arange(len(labels)), test_size=360, stratify=labels, random_state=0)
    chosen = test if split == "test" else train
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    return images[chosen], labels[chosen], [str(name) for name in digits.target_names]


SOURCES: dict[str, Source] = {
    "cifar10": Source(
        _torchvision("CIFAR10"),
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
        Augmentation(pad=4, flip=True),
    ),
    "cifar100": Source(
        _torchvision("CIFAR100"),
        (0.5071, 0.4865, 0.4409),
        (0.2673, 0.2564, 0.2762),
        Augmentation(pad=4, flip=True),
    ),
    "mnist": Source(_torchvision("MNIST"), (0.1307,), (0.3081,), Augmentation(pad=2, flip=False)),
    "fashion_mnist": Source(
        _torchvision("FashionMNIST"), (0.2860,), (0.3530,), Augmentation(pad=2, flip=True)
    ),
    "digits": Source(_digits, (0.3054,), (0.3760,), Augmentation(pad=1, flip=False)),
}


def names() -> list[str]:
    """Names of the data sets `load` knows."""
    return sorted(SOURCES)


def load(
    name: str, root: str | os.PathLike[str] = "data", split: str = "train", download: bool = True
) -> ImageDataset:
    """Read one split of a data set into memory.

    Args:
        name: cifar10, cifar100, mnist, fashion_mnist (torchvision's, under `root`), or digits
            (scikit-learn's, embedded, no files).
        split: "train" or "test".
        download: fetch what is missing; False only reads.

    Raises:
        PtqxError: an unknown name or split, missing or damaged files, or a library that is not installed.

    >>> digits = load("digits", split="test")
    >>> digits.images.shape, digits.num_classes
    (torch.Size([360, 1, 8, 8]), 10)
    """
    if name not in SOURCES:
        raise unknown_name("dataset", name, SOURCES)
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    source = SOURCES[name]
    images, labels, classes = source.read(Path(root), split, download)
    pixels = torch.as_tensor(images)
    pixels = pixels[:, None] if pixels.dim() == 3 else pixels.permute(0, 3, 1, 2)
    return ImageDataset(
        name=name,
        images=pixels.contiguous(),
        labels=torch.as_tensor(labels, dtype=torch.int64),
        classes=tuple(classes),
        mean=source.mean,
        std=source.std,
        augmentation=source.augmentation,
    )
