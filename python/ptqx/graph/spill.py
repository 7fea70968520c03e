"""Large tensors of a whole calibration set: in memory up to a limit, beyond it in temporary files."""

from __future__ import annotations

import math
import os
import tempfile
import weakref

import torch
from torch import Tensor

MEMORY_LIMIT = 2 * 2**30  # bytes


class Spill:
    """Makes empty float32 tensors; once those alive hold `limit` bytes, further ones lie in deleted files.

    >>> spill = Spill(limit=100)
    >>> first, second = spill.empty(4, 5), spill.empty(4, 5)
    >>> spill.in_memory, spill.in_files
    (80, 80)
    >>> del first, second
    >>> spill.in_memory, spill.in_files
    (0, 0)
    """

    def __init__(self, limit: int = MEMORY_LIMIT) -> None:
        self.limit = limit
        self.in_memory = 0
        self.in_files = 0

    def empty(self, *shape: int) -> Tensor:
        size = 4 * math.prod(shape)
        if self.in_memory + size <= self.limit:
            tensor, counter = torch.empty(shape), "in_memory"
        else:
            tensor, counter = _mapped(shape), "in_files"
        setattr(self, counter, getattr(self, counter) + size)
        weakref.finalize(tensor, self._forget, counter, size)
        return tensor

    def _forget(self, counter: str, size: int) -> None:
        setattr(self, counter, getattr(self, counter) - size)


def _mapped(shape: tuple[int, ...]) -> Tensor:
    handle, path = tempfile.mkstemp(prefix="ptqx-")
    os.close(handle)
    try:
        flat = torch.from_file(path, shared=True, size=math.prod(shape), dtype=torch.float32)
    finally:
        os.unlink(path)  # the mapping keeps it until the tensor goes
    return flat.reshape(shape)
