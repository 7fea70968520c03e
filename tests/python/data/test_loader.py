"""Loader: order, augmentation against a plain per-image oracle, sharding."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from ptqx.data import Augmentation, ImageDataset, Loader
from ptqx.errors import PtqxError


def random_set(n: int = 50, size: tuple[int, int] = (8, 10), pad: int = 3, flip: bool = True) -> ImageDataset:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, *size), dtype=torch.uint8, generator=generator)
    classes = tuple(map(str, range(n)))
    return ImageDataset(
        "random", images, torch.arange(n), classes, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), Augmentation(pad, flip)
    )


def batches(loader: Loader) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(loader)


def test_plain_pass_keeps_the_order_and_every_image() -> None:
    data = random_set()
    loader = Loader(data, batch_size=16)
    x, y = (torch.cat(parts) for parts in zip(*loader, strict=True))
    assert len(loader) == 4
    assert torch.equal(y, data.labels)
    torch.testing.assert_close(x, data.normalize(data.images), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("n", "drop_last", "sizes"), [(48, False, [16] * 3), (50, True, [16] * 3), (3, False, [3])]
)
def test_last_batch(n: int, drop_last: bool, sizes: list[int]) -> None:
    loader = Loader(random_set(n), batch_size=16, drop_last=drop_last)
    assert [len(y) for _, y in loader] == sizes
    assert len(loader) == len(sizes)


def test_every_augmented_image_is_a_crop_of_its_reflected_source() -> None:
    data = random_set(n=40)
    pad, (_, height, width) = data.augmentation.pad, data.image_shape
    offsets, mirrors = set(), set()

    def crop(padded: torch.Tensor, dy: int, dx: int, mirrored: bool) -> torch.Tensor:
        cut = padded[:, dy : dy + height, dx : dx + width]
        return cut.flip(2) if mirrored else cut

    for x, y in Loader(data, batch_size=40, shuffle=True, augment=True):
        for image, label in zip(x, y, strict=True):
            padded = F.pad(data.normalize(data.images[label][None]), (pad,) * 4, mode="reflect")[0]
            matches = [
                (dy, dx, mirrored)
                for dy in range(2 * pad + 1)
                for dx in range(2 * pad + 1)
                for mirrored in (False, True)
                if torch.equal(image, crop(padded, dy, dx, mirrored))
            ]
            assert len(matches) == 1, f"image {int(label)} matches {matches}"
            offsets.add(matches[0][:2])
            mirrors.add(matches[0][2])
    assert len(offsets) > 15 and mirrors == {False, True}


def test_order_and_augmentation_follow_from_seed_and_epoch() -> None:
    def make(seed: int) -> Loader:
        return Loader(random_set(), batch_size=16, shuffle=True, augment=True, seed=seed)

    one, other = make(1), make(1)
    first, second = batches(one), batches(one)
    assert one.epoch == 2
    other.epoch = 1
    for (x, y), (x2, y2) in zip(second, batches(other), strict=True):
        assert torch.equal(x, x2) and torch.equal(y, y2)
    assert not torch.equal(first[0][1], second[0][1])
    assert not torch.equal(first[0][1], batches(make(2))[0][1])


def test_start_leaves_out_batches_once() -> None:
    def make() -> Loader:
        return Loader(random_set(), batch_size=16, shuffle=True, augment=True)

    whole, late = batches(make()), make()
    late.start = 2
    for (x, y), (x2, y2) in zip(whole[2:], batches(late), strict=True):
        assert torch.equal(x, x2) and torch.equal(y, y2)
    assert len(batches(late)) == 4


@pytest.mark.parametrize("augment", [False, True], ids=["plain", "augmented"])
def test_ranks_share_each_batch(augment: bool) -> None:
    def make(rank: int, world_size: int) -> Loader:
        return Loader(
            random_set(), 16, True, augment, seed=5, drop_last=True, rank=rank, world_size=world_size
        )

    for (x, y), (x0, y0), (x1, y1) in zip(make(0, 1), make(0, 2), make(1, 2), strict=True):
        assert torch.equal(x[0::2], x0) and torch.equal(y[0::2], y0)
        assert torch.equal(x[1::2], x1) and torch.equal(y[1::2], y1)


@pytest.mark.parametrize("channels_last", [True, False])
def test_memory_format_is_as_asked(channels_last: bool) -> None:
    x, _ = next(iter(Loader(random_set(), 16, channels_last=channels_last)))
    assert x.dtype == torch.float32
    wanted = torch.channels_last if channels_last else torch.contiguous_format
    assert x.is_contiguous(memory_format=wanted)


def test_mirroring_is_off_where_the_set_says_so() -> None:
    data = replace(random_set(), augmentation=Augmentation(pad=0, flip=False))
    x, _ = next(iter(Loader(data, 50, augment=True)))
    torch.testing.assert_close(x, data.normalize(data.images), rtol=0, atol=0)


def test_empty_set_gives_no_batches() -> None:
    loader = Loader(random_set().subset(slice(0, 0)), 16, shuffle=True)
    assert len(loader) == 0 and batches(loader) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"batch_size": 5, "world_size": 2}, "batch_size 5 must be a multiple of world_size 2"),
        ({"batch_size": 4, "world_size": 2, "rank": 2}, "rank 2"),
    ],
)
def test_bad_arguments_are_errors(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(PtqxError, match=message):
        Loader(random_set(), **arguments)  # type: ignore[arg-type]
    with pytest.raises(PtqxError, match="pad must be smaller than the image"):
        Loader(random_set(pad=8), 4, augment=True)


@pytest.mark.parametrize("mixup", [0.2, 1.0, 8.0])
def test_mixed_images_are_the_shares_of_two_that_their_labels_say(mixup: float) -> None:
    data = random_set(n=40)
    plain = data.normalize(data.images)
    shares = []
    for x, y in Loader(data, batch_size=16, mixup=mixup):
        assert y.shape == (len(x), data.num_classes)
        torch.testing.assert_close(y.sum(1), torch.ones(len(x)))
        torch.testing.assert_close(x, torch.einsum("nk,kchw->nchw", y, plain))  # classes number the images
        assert x.is_contiguous(memory_format=torch.channels_last)
        shares += y.max(1).values.tolist()
    assert min(shares) >= 0.5
    low, high = {0.2: (0.82, 1.0), 1.0: (0.68, 0.85), 8.0: (0.5, 0.7)}[mixup]  # means 0.91, 0.75, 0.6
    assert low < sum(shares) / len(shares) < high


def test_mixing_depends_on_seed_epoch_batch_and_rank_only() -> None:
    data = random_set(n=48)
    first, again = (Loader(data, batch_size=16, mixup=1.0, seed=3) for _ in range(2))
    whole = [batches(first), batches(first)]
    again.epoch, again.start = 1, 2
    (resumed,) = batches(again)
    assert all(torch.equal(a, b) for a, b in zip(resumed, whole[1][2], strict=True))
    labels = [y for _, y in whole[0]] + [y for _, y in whole[1]]
    assert not any(torch.equal(a, b) for i, a in enumerate(labels) for b in labels[:i])
    ranks = [batches(Loader(data, batch_size=16, mixup=1.0, rank=r, world_size=2))[0] for r in (0, 1)]
    assert ranks[0][1].sum(0).count_nonzero() == ranks[1][1].sum(0).count_nonzero() == 8
    assert not torch.equal(ranks[0][1].max(1).values, ranks[1][1].max(1).values)


@pytest.mark.parametrize("mixup", [-0.1, float("inf"), float("nan")])
def test_shares_that_no_distribution_has(mixup: float) -> None:
    with pytest.raises(PtqxError, match="mixup must be in"):
        Loader(random_set(), mixup=mixup)
