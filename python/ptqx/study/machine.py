"""The machine that a measurement was made on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch


def describe() -> dict[str, Any]:
    """CPU, memory, versions and the instruction set that ptqx's kernels use: plain values, ready for JSON."""
    from .. import _C

    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "memory_bytes": memory_bytes(),
        "isa": _C.isa_ceiling(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ptqx": _C.build_info()["version"],
    }


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or "unknown CPU"


def memory_bytes() -> int | None:
    """Main memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def native_float_types() -> set[str]:
    """Which of "fp16" and "bf16" this CPU multiplies natively.

    >>> native_float_types() <= {"fp16", "bf16"}
    True
    """
    capabilities = torch.cpu.get_capabilities()
    instructions = {
        "fp16": ("avx512_fp16", "amx_fp16"),
        "bf16": ("avx512_bf16", "amx_bf16"),
    }
    return {name for name, flags in instructions.items() if any(capabilities.get(flag) for flag in flags)}
