"""Random numbers from counters: they depend on a seed and an element's index alone."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # 2**64 / golden ratio, as int64
MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
MIX_2 = 0x94D049BB133111EB - 2**64


def uniform_noise(
    shape: Sequence[int],
    seed: int,
    stream: int = 0,
    step: Tensor | int = 0,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Uniform in [0, 1), float32: a multiple of 2**-24 for every element, by its index in row-major order.

    SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014) of
    key + (index + 1) * golden, where the key is that of seed, stream and step. The number of threads and the
    memory order of what it is added to make no difference.

    Args:
        stream: tells tensors apart that share a seed: `stream_of` their name, 32 bits.
        step: tells repetitions apart, such as the steps of a training.

    >>> uniform_noise((3,), seed=0)
    tensor([0.8833, 0.4315, 0.0264])
    >>> bool((uniform_noise((3,), seed=0) == uniform_noise((2, 3), seed=0)[0]).all())
    True
    """
    key = torch.as_tensor(seed + stream * 2**31, dtype=torch.int64, device=device)
    if not isinstance(step, int) or step:
        key = _mixed(key + torch.as_tensor(step, dtype=torch.int64, device=device) * GOLDEN)
    count = 1
    for extent in shape:
        count *= extent
    index = torch.arange(1, count + 1, dtype=torch.int64, device=device)
    bits = _shifted(_mixed(key + index * GOLDEN), 40)
    return (bits.float() * 2.0**-24).reshape(tuple(shape))


def stream_of(name: str) -> int:
    """A number of 32 bits for a tensor's name.

    >>> stream_of("features.0: weight") != stream_of("features.3: weight")
    True
    """
    return zlib.crc32(name.encode())


def _mixed(z: Tensor) -> Tensor:
    z = (z ^ _shifted(z, 30)) * MIX_1
    z = (z ^ _shifted(z, 27)) * MIX_2
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, places: int) -> Tensor:
    """z >> places of unsigned 64-bit numbers."""
    return (z >> places) & (2 ** (64 - places) - 1)
