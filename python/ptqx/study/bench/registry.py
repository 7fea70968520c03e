"""The engines that `bench` knows. A new one is one decorated function in a file of this folder."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from ...errors import unknown_name

Arithmetic = Literal["int8", "int4", "fp32", "bf16"]


class Unavailable(Exception):
    """An engine can't run here; the message is one line that says why."""


@dataclass(frozen=True, eq=False)
class Network:
    """What every engine is made from.

    Attributes:
        name: as `ptqx.models.build` takes it.
        model: float32, in eval() mode; not to be changed.
        calibration: batches of float32 images (n, C, H, W).
    """

    name: str
    model: nn.Module
    calibration: list[Tensor]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return tuple(self.calibration[0].shape[1:])


@dataclass(frozen=True)
class Memory:
    """Bytes that a network holds while it runs, beside its input and output.

    Attributes:
        file: the stored form, if it stays in memory.
        weights: as they are multiplied with; plan and tables included.
        activations: the most at one time.
    """

    file: int
    weights: int
    activations: int

    @property
    def total(self) -> int:
        return self.file + self.weights + self.activations


@dataclass(frozen=True)
class Session:
    """A network in one engine, bound to one batch of images and a number of threads.

    Attributes:
        run: computes the logits of the whole batch, as a tensor or an array.
        detail: how the engine was set up, where there was a choice.
        memory: measures what a run holds, for engines that can tell.
    """

    run: Callable[[], Any]
    detail: str = ""
    memory: Callable[[], Memory] | None = None


# Batch, float32 NCHW and contiguous, and threads; called under torch.set_num_threads(threads).
Load = Callable[[Tensor, int], Session]
Prepare = Callable[[Network], Load]


@dataclass(frozen=True)
class Engine:
    """One way to run a network.

    Attributes:
        arithmetic: of the multiplications.
        peer: an int8 engine that is not ptqx: the fastest of them is what ptqx is measured against.
        packages: that it needs, by the names they are imported by.
        prepare: quantizes a network once; what it returns is called for each batch size and thread count.
    """

    name: str
    arithmetic: Arithmetic
    peer: bool
    packages: tuple[str, ...]
    prepare: Prepare

    @property
    def ours(self) -> bool:
        """Whether a failure is a defect of ptqx, not to be skipped."""
        return self.name.startswith("ptqx")

    def check_available(self) -> None:
        """
        Raises:
            Unavailable: a package is missing.
        """
        missing = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if missing:
            raise Unavailable(f"{', '.join(missing)} not installed: pip install 'ptqx[peers]'")


ENGINES: dict[str, Engine] = {}


def register_engine(
    name: str, arithmetic: Arithmetic, *, peer: bool = False, packages: tuple[str, ...] = ()
) -> Callable[[Prepare], Prepare]:
    """Decorator: make an engine known to `bench`."""

    def enter(prepare: Prepare) -> Prepare:
        ENGINES[name] = Engine(name, arithmetic, peer, packages, prepare)
        return prepare

    return enter


def engine(name: str) -> Engine:
    """The engine of that name.

    >>> engine("openvion")
    Traceback (most recent call last):
    ptqx.errors.PtqxError: unknown engine 'openvion'; did you mean openvino, openvino-fp32?
    """
    if name not in ENGINES:
        raise unknown_name("engine", name, ENGINES)
    return ENGINES[name]


def engine_names() -> list[str]:
    """All engines: ptqx, then its peers, then float arithmetic."""
    return sorted(ENGINES, key=lambda name: (not ENGINES[name].ours, not ENGINES[name].peer, name))
