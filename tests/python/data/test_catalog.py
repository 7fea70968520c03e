"""Data sets by name: contents, and what is said when files are missing."""

from __future__ import annotations

import gzip
import struct
import sys
from pathlib import Path

import pytest
import torch
from ptqx import data
from ptqx.errors import PtqxError

ON_DISK = Path("data")
FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python", "mnist": "MNIST/raw"}


@pytest.mark.parametrize(
    ("name", "shape", "num_classes"),
    [("cifar10", (3, 32, 32), 10), ("cifar100", (3, 32, 32), 100), ("mnist", (1, 28, 28), 10)],
)
def test_data_set_on_disk_is_whole(name: str, shape: tuple[int, int, int], num_classes: int) -> None:
    if not (ON_DISK / FOLDERS[name]).is_dir():
        pytest.skip(f"{name} is not in {ON_DISK.resolve()}")
    train, test = (data.load(name, ON_DISK, split, download=False) for split in ("train", "test"))
    assert (len(train), len(test)) == (60_000 if name == "mnist" else 50_000, 10_000)
    for part in (train, test):
        assert part.image_shape == shape
        assert part.num_classes == num_classes
        assert part.labels.bincount(minlength=num_classes).min() > 0
    pixels = train.images.double().div_(255)
    torch.testing.assert_close(pixels.mean((0, 2, 3)), torch.tensor(train.mean).double(), rtol=0, atol=2e-4)
    torch.testing.assert_close(pixels.std((0, 2, 3)), torch.tensor(train.std).double(), rtol=0, atol=2e-4)


def test_digits_need_no_files_and_split_without_overlap(tmp_path: Path) -> None:
    train, test = (
        data.load("digits", tmp_path / "absent", split, download=False) for split in ("train", "test")
    )
    assert (len(train), len(test)) == (1437, 360)
    assert train.images.dtype == torch.uint8 and int(train.images.max()) == 255
    again = data.load("digits", split="train")
    assert torch.equal(again.images, train.images) and torch.equal(again.labels, train.labels)
    assert test.labels.bincount().min() >= 30


def test_mnist_format_is_read_from_its_files(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = torch.randint(0, 256, (3, 28, 28), dtype=torch.uint8)
    for part in ("train", "t10k"):
        header = struct.pack(">HBBIII", 0, 8, 3, 3, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + pixels.numpy().tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, 3) + bytes([3, 1, 4]))
    loaded = data.load("mnist", tmp_path, "test", download=False)
    assert torch.equal(loaded.images[:, 0], pixels)
    assert loaded.labels.tolist() == [3, 1, 4]


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist", "fashion_mnist"])
def test_missing_folder_names_files_and_remedy(tmp_path: Path, name: str) -> None:
    with pytest.raises(PtqxError, match=r"is not whole in .*: missing .*(train|data_batch_1).*--data-root"):
        data.load(name, tmp_path / "absent", download=False)


def test_half_present_folder_names_missing_and_damaged_files(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    (folder / "train").write_bytes(gzip.compress(b"half of it"))
    with pytest.raises(PtqxError, match=r"missing test, meta; damaged train; allow the download"):
        data.load("cifar100", tmp_path, download=False)


def test_truncated_mnist_is_an_error(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{name}-ubyte").write_bytes(b"\0\0\x08\x03\0\0")
    with pytest.raises(PtqxError, match="MNIST can't be read"):
        data.load("mnist", tmp_path, download=False)


def test_unknown_names_list_the_nearest() -> None:
    with pytest.raises(PtqxError, match=r"unknown dataset 'cifar-10'; did you mean cifar10"):
        data.load("cifar-10")
    with pytest.raises(PtqxError, match=r"unknown split 'valid'; known: test, train"):
        data.load("digits", split="valid")


@pytest.mark.parametrize(("module", "name"), [("sklearn.datasets", "digits"), ("torchvision", "cifar10")])
def test_missing_library_names_the_remedy(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(PtqxError, match=r"pip install 'ptqx\[study\]'"):
        data.load(name, download=False)
