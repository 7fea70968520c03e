"""ImageDataset and the ways to cut it."""

from __future__ import annotations

import pytest
import torch
from ptqx.data import ImageDataset, calibration_split, split
from ptqx.errors import PtqxError


def numbered(n: int = 100, classes: int = 5) -> ImageDataset:
    """Image i is filled with i, its label is i modulo `classes`."""
    images = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 3, 8, 8).contiguous()
    names = tuple(str(c) for c in range(classes))
    return ImageDataset("numbered", images, torch.arange(n) % classes, names, (0.5,) * 3, (0.25,) * 3)


def test_normalize_is_the_formula() -> None:
    data = numbered()
    expected = (data.images.double() / 255 - 0.5) / 0.25
    torch.testing.assert_close(data.normalize(data.images).double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "cut", [lambda d: calibration_split(d, 20, seed=3), lambda d: split(d, 0.2, seed=3)[1]]
)
def test_cut_is_reproducible_without_repetition_and_keeps_labels(cut) -> None:  # type: ignore[no-untyped-def]
    first, second = cut(numbered()), cut(numbered())
    numbers = first.images[:, 0, 0, 0].long()
    assert len(numbers.unique()) == 20
    assert torch.equal(first.labels, numbers % 5)
    assert torch.equal(first.images, second.images)


def test_calibration_split_depends_on_seed_and_ends_at_the_set() -> None:
    data = numbered()
    assert not torch.equal(
        calibration_split(data, 20, seed=0).images, calibration_split(data, 20, seed=1).images
    )
    assert len(calibration_split(data, 1024)) == 100
    with pytest.raises(PtqxError, match="n must be at least 1, got 0"):
        calibration_split(data, 0)


def test_split_parts_are_disjoint_and_complete() -> None:
    rest, held_out = split(numbered(), 0.1)
    numbers = torch.cat([rest.images, held_out.images])[:, 0, 0, 0]
    assert len(held_out) == 10 and len(numbers.unique()) == 100
    with pytest.raises(PtqxError, match="fraction must leave images on both sides"):
        split(numbered(), 0.001)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(100, 3, 8, 8)}, "images must be uint8"),
        ({"images": torch.zeros(100, 8, 8, dtype=torch.uint8)}, "images must be uint8 .N, C, H, W."),
        ({"labels": torch.zeros(99, dtype=torch.int64)}, r"labels must be int64 \(100,\)"),
        ({"labels": torch.zeros(100)}, "labels must be int64"),
        ({"labels": torch.full((100,), 5)}, r"labels must be in \[0, 5\), got up to 5"),
        ({"labels": torch.full((100,), -1)}, r"labels must be in \[0, 5\)"),
        ({"mean": (0.5,)}, "mean and std must have one value for each of 3 channels"),
    ],
)
def test_malformed_set_is_an_error(change: dict[str, object], message: str) -> None:
    good = numbered()
    fields = {"name": "x", "images": good.images, "labels": good.labels, "classes": good.classes}
    with pytest.raises(PtqxError, match=message):
        ImageDataset(**{**fields, "mean": good.mean, "std": good.std, **change})  # type: ignore[arg-type]
