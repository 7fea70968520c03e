"""The C library's allocator, told whether to keep what training steps free."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
KEPT_BYTES = 2**31 - 1  # what an int argument can say
PAGES_OF_THEIR_OWN = 2**16  # bytes; smaller blocks are too few and too small to count


def keep_freed_memory() -> bool:
    """Keep freed blocks in the process, for the allocations of the next step.

    By default glibc maps every large tensor anew and unmaps it when it is freed, so that each step pays for
    the page faults of all its activations. Returns False, and does nothing, where the C library is another.
    """
    return _mallopt(M_MMAP_THRESHOLD, KEPT_BYTES) and _mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def return_freed_memory() -> bool:
    """Hand each freed block back at once, so that the process holds what lives and little else.

    For measurements: blocks kept for later leave gaps, whose sum differs from run to run by tens of MiB.
    Returns False, and does nothing, where the C library is not glibc.
    """
    return _mallopt(M_MMAP_THRESHOLD, PAGES_OF_THEIR_OWN) and _mallopt(M_TRIM_THRESHOLD, 0)


def _mallopt(option: int, value: int) -> bool:
    if platform.libc_ver()[0] != "glibc":
        return False
    return bool(ctypes.CDLL(None).mallopt(option, value))
