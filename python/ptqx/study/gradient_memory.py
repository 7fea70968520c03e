"""Peak memory of training steps whose gradients are summed up in float32 or in int8."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from .. import models
from ..errors import PtqxError
from ..train import TrainConfig, decay_groups
from ..train.gradients import Accumulation, GradientPath
from ..train.memory import return_freed_memory
from ..train.optimizer import OPTIMIZERS
from .rows import MIB, markdown_table

BITS = (32, 8)
STEPS = 3
HEADER = ("gradients", "accumulated MiB", "peak MiB", "saved MiB")


@dataclass(frozen=True)
class MemoryRow:
    """Training steps with gradients summed up in `bits` bits.

    Attributes:
        accumulated_bytes: what the sums take before the optimizer's step: values, or codes and scales.
        peak_bytes: most physical memory of its own that the process had during the steps, all included.
    """

    bits: int
    accumulated_bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class MemoryTable:
    """Result of `gradient_memory`; its first row is float32."""

    rows: list[MemoryRow]

    def to_markdown(self) -> str:
        reference = self.rows[0].peak_bytes
        lines = [
            [
                "float32" if row.bits == 32 else f"int{row.bits}",
                f"{row.accumulated_bytes / MIB:.1f}",
                f"{row.peak_bytes / MIB:.1f}",
                "-" if row.bits == 32 else f"{(reference - row.peak_bytes) / MIB:.1f}",
            ]
            for row in self.rows
        ]
        return markdown_table(HEADER, lines, frozenset(HEADER) - {"gradients"})

    def to_dicts(self) -> list[dict[str, Any]]:
        return [asdict(row) for row in self.rows]


def gradient_memory(
    model: str,
    image_shape: tuple[int, int, int] = (3, 32, 32),
    *,
    num_classes: int = 100,
    batch_size: int = 32,
    micro_batches: int = 4,
    threads: int = 1,
    progress: bool = True,
) -> MemoryTable:
    """Measure `ptqx train`'s steps on random images, each way in a process of its own.

    The peak is the kernel's (VmHWM of /proc/self/status, set back after a first step) without the pages of
    libraries, so it holds parameters, activations, momenta and temporary tensors as well as the sums. Freed
    blocks go back to the kernel at once here; `ptqx train` itself keeps them, which is faster and takes more.

    Args:
        batch_size: images of one step, shared by the micro-batches.

    Raises:
        PtqxError: an unknown model, fewer micro-batches than 1 or more than images, or a system other than
            Linux.
    """
    if not 1 <= micro_batches <= batch_size:
        raise PtqxError(f"micro_batches must be in 1..{batch_size}, the batch; got {micro_batches}")
    if not Path("/proc/self/clear_refs").exists():
        raise PtqxError("peak memory is measured by Linux's /proc, which is not here")
    models.build(model, num_classes, **models.image_options(model, image_shape))
    arguments = (model, image_shape, num_classes, batch_size, micro_batches, threads)
    rows = []
    for bits in tqdm(BITS, desc="processes", disable=not progress):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            rows.append(process.submit(_measure, bits, *arguments).result())
    return MemoryTable(rows)


def _measure(
    bits: int,
    model: str,
    image_shape: tuple[int, int, int],
    num_classes: int,
    batch_size: int,
    micro_batches: int,
    threads: int,
) -> MemoryRow:
    torch.set_num_threads(threads)
    return_freed_memory()
    torch.manual_seed(0)
    network = models.build(model, num_classes, **models.image_options(model, image_shape))
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    config = TrainConfig(amp="off", accumulation=Accumulation(micro_batches, bits))
    optimizer = OPTIMIZERS[config.optimizer](decay_groups(network, config.weight_decay), config)
    gradients = GradientPath(network, config)
    x = torch.randn(batch_size, *image_shape).contiguous(memory_format=torch.channels_last)
    y = torch.randint(num_classes, (batch_size,))
    for step in range(STEPS):
        if step == 1:
            Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what there is now
        optimizer.zero_grad(set_to_none=True)
        for part in gradients.parts(batch_size):
            loss = nn.functional.cross_entropy(network(x[part]), y[part])
            gradients.backward(loss * (len(y[part]) / batch_size))
        accumulated = gradients.accumulated_bytes()
        gradients.step(optimizer)
    libraries = _resident("RssFile") + _resident("RssShmem")
    return MemoryRow(bits, accumulated, _resident("VmHWM") - libraries)


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
