"""Each layer's integer step beside PyTorch's float convolution of the same shape, measured."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import mkldnn
from tqdm import tqdm

from .. import _C
from ..errors import PtqxError
from ..graph import Engine, IntegerModel, compile
from ..graph.document import IntegerNode
from ..tables import aligned
from .machine import native_float_types
from .timing import thread_count

ROUNDS = 7
STEP_ROUNDS = 3  # passes of the engine in a round
SAMPLE_SECONDS = 0.003
CEILING_SECONDS = 0.25


@dataclass(frozen=True)
class LayerSpeed:
    """One layer on one thread.

    Attributes:
        name, kind: of the layer and its operation.
        int8_us: microseconds of a batch for the engine's step, in its place in the network: convolution,
            bias, activation and rounding to the next layer's codes.
        fp32_us, bf16_us: of PyTorch's convolution or linear layer with bias, in the fastest of three forms:
            plain, channels_last, and with weights packed by oneDNN. It is run over and over, so that its
            weights lie in the caches if they fit. None where the CPU has no bfloat16 arithmetic.
        nominal_share, useful_share: multiplications of the integer step per second, those on padding included
            and not, as a share of what the machine can do on u8 and s8; above 1 where fewer are made.
        strategy: how the integer step is computed: regions, taps, rows, winograd, tiles.
    """

    name: str
    kind: str
    int8_us: float
    fp32_us: float
    bf16_us: float | None
    nominal_share: float
    useful_share: float
    strategy: str

    @property
    def fastest(self) -> str:
        """ "int8", "fp32" or "bf16"."""
        times = {"int8": self.int8_us, "fp32": self.fp32_us, "bf16": self.bf16_us}
        return min((name for name in times if times[name] is not None), key=lambda name: times[name] or 0.0)


@dataclass(frozen=True)
class LayerSpeeds:
    """All layers with weights; printed, it is a table and a line that names those where float wins.

    Attributes:
        ceiling: multiply-accumulates on u8 and s8 per second that one thread can do at most.
    """

    rows: tuple[LayerSpeed, ...]
    batch: int
    ceiling: float

    def to_dicts(self) -> dict[str, dict[str, Any]]:
        """The rows by name as plain values, ready for JSON."""
        return {row.name: {**asdict(row), "batch": self.batch, "fastest": row.fastest} for row in self.rows}

    def __str__(self) -> str:
        header = (
            "layer",
            "int8 us",
            "fp32 us",
            "bf16 us",
            "fp32/int8",
            "of ceiling",
            "useful",
            "strategy",
            "fastest",
        )
        cells = [
            (
                *(row.name, f"{row.int8_us:.1f}", f"{row.fp32_us:.1f}"),
                "" if row.bf16_us is None else f"{row.bf16_us:.1f}",
                *(f"{row.fp32_us / row.int8_us:.2f}", f"{100 * row.nominal_share:.0f} %"),
                *(f"{100 * row.useful_share:.0f} %", row.strategy, row.fastest),
            )
            for row in self.rows
        ]
        slower = [f"{row.name} ({row.fastest})" for row in self.rows if row.fastest != "int8"]
        verdict = f"float is faster for {', '.join(slower)}" if slower else "int8 is fastest for every layer"
        where = f"batch {self.batch}, one thread; the ceiling is {self.ceiling / 1e9:.1f} GMAC/s on u8 and s8"
        return f"{aligned(header, cells, header[1:-2])}\n{where}\n{verdict}"


@torch.no_grad()
def layer_speeds(
    model: IntegerModel, batch: int = 1, *, rounds: int = ROUNDS, progress: bool = True
) -> LayerSpeeds:
    """Time every convolution and linear layer in integers and in float, in rounds, on one thread.

    Args:
        model: of `ptqx.convert` or `ptqx.load`; the whole of it must run in the engine.
        batch: samples at a time.
        rounds: medians are taken over so many.

    Raises:
        PtqxError: the engine can't run the model, or a number below 1.
    """
    for name, value in (("batch", batch), ("rounds", rounds)):
        if value < 1:
            raise PtqxError(f"{name} must be at least 1, got {value}")
    example = torch.zeros(batch, *model.graph.input_shape)
    engine = compile(model, example)
    shapes: dict[str, Tensor] = {model.graph.input: example}
    model.run(example, shapes)
    layers = [node for node in model.graph if "weight_shape" in node.attrs]
    dtypes = {"fp32": torch.float32}
    if "bf16" in native_float_types():
        dtypes["bf16"] = torch.bfloat16
    ceiling = _C.measure_machine(1, CEILING_SECONDS)["u8s8_macs"]
    with thread_count(1):
        calls = {
            (node.name, name): _float_calls(node, shapes[node.inputs[0]].shape, dtype)
            for node in layers
            for name, dtype in dtypes.items()
        }
        integer: dict[str, list[float]] = {node.name: [] for node in layers}
        strategies: dict[str, str] = {}
        floats: dict[tuple[str, str], list[list[float]]] = {key: [[] for _ in calls[key]] for key in calls}
        for _ in tqdm(range(rounds), desc="rounds", disable=not progress):
            steps = _C.engine_profile(engine.program, batch, STEP_ROUNDS)
            for name, seconds in _step_seconds(steps).items():
                integer.setdefault(name, []).append(seconds)
            strategies |= {step["name"]: step["strategy"] for step in steps if step["strategy"]}
            for key, variants in calls.items():
                for times, call in zip(floats[key], variants, strict=True):
                    times.append(_seconds(call))
    best = {key: 1e6 * min(map(statistics.median, variants)) for key, variants in floats.items()}
    macs = _macs(engine)
    rows = []
    for node in layers:
        seconds = statistics.median(integer[node.name])
        nominal, useful = (batch * count / seconds / ceiling for count in macs[node.name])
        bf16 = best.get((node.name, "bf16"))
        rows.append(
            LayerSpeed(
                node.name,
                node.op,
                1e6 * seconds,
                best[node.name, "fp32"],
                bf16,
                nominal,
                useful,
                strategies[node.name],
            )
        )
    return LayerSpeeds(tuple(rows), batch, ceiling)


def _step_seconds(steps: list[dict[str, Any]]) -> dict[str, float]:
    """Of each layer, all its steps together."""
    seconds: dict[str, float] = {}
    for step in steps:
        seconds[step["name"]] = seconds.get(step["name"], 0.0) + step["seconds"]
    return seconds


def _macs(engine: Engine) -> dict[str, tuple[int, int]]:
    """Multiplications of a sample: nominal, useful."""
    steps = (step for step in _C.engine_steps(engine.program) if step["macs"])
    return {step["name"]: (step["macs"], step["useful_macs"]) for step in steps}


def _seconds(call: Callable[[], object]) -> float:
    """Of one call, repeated for some milliseconds."""
    call()
    count, began = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < SAMPLE_SECONDS or count == 0:
        call()
        count += 1
    return elapsed / count


def _float_calls(node: IntegerNode, shape: torch.Size, dtype: torch.dtype) -> list[Callable[[], object]]:
    """The layer with random weights on random inputs: plain, channels_last, packed by oneDNN."""
    layer, sizes = _float_layer(node, shape)
    x = torch.randn(sizes).to(dtype)
    packed: Any = mkldnn.to_mkldnn(copy.deepcopy(layer), dtype)
    packed_x = x.to_mkldnn()
    plain: Any = copy.deepcopy(layer).to(dtype)
    calls: list[Callable[[], object]] = [lambda: packed(packed_x), lambda: plain(x)]
    if x.dim() == 4:
        last: Any = copy.deepcopy(plain).to(memory_format=torch.channels_last)
        x_last = x.to(memory_format=torch.channels_last)
        calls.append(lambda: last(x_last))
    return calls


def _float_layer(node: IntegerNode, shape: torch.Size) -> tuple[nn.Module, tuple[int, ...]]:
    """And the input's shape: padding that nn.Conv2d can't express is part of the input."""
    weight_shape = node.attrs["weight_shape"]
    if len(weight_shape) == 2:
        return nn.Linear(weight_shape[1], weight_shape[0]).eval(), tuple(shape)
    groups = node.attrs.get("groups", 1)
    top, left, bottom, right = node.attrs.get("padding", [0, 0, 0, 0])
    lopsided = (top, left) != (bottom, right)
    n, c, h, w = shape
    layer = nn.Conv2d(
        weight_shape[1] * groups,
        weight_shape[0],
        tuple(weight_shape[2:]),
        tuple(node.attrs.get("stride", [1, 1])),
        (0, 0) if lopsided else (top, left),
        tuple(node.attrs.get("dilation", [1, 1])),
        groups,
    )
    return layer.eval(), (n, c, h + top + bottom, w + left + right) if lopsided else (n, c, h, w)
