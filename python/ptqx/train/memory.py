"""The C library's allocator, told not to hand memory back between training steps."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
KEPT_BYTES = 2**31 - 1  # what an int argument can say


def keep_freed_memory() -> bool:
    """Keep freed blocks in the process, for the allocations of the next step.

    By default glibc maps every large tensor anew and unmaps it when it is freed, so that each step pays for
    the page faults of all its activations. Returns False, and does nothing, where the C library is another.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)) and bool(mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))
