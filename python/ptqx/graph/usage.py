"""level_usage: how far every layer's accumulators and codes are used, and what would help."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PtqxError
from ..tables import aligned
from .accumulators import accumulating_layers, accumulator_bound, bits_of, largest_accumulator
from .document import IntegerNode
from .engine import Engine
from .explain import explain
from .integer import IntegerModel
from .operators.stored_weights import stored_codes

CLIPPED_SHARE = 0.01  # more than that at the end of the range is worth a wider one
UNUSED_SHARE = 0.25  # more unused codes than that at the ends of the range are worth a narrower one
DEAD_SHARE = 0.1  # more channels than that which give one value alone


@dataclass(frozen=True)
class LevelUsage:
    """One static layer.

    Attributes:
        layer, kernel: the layer, and what the engine runs for it; "" outside the engine.
        accumulator_bits: of a signed integer that holds every accumulator any input could give.
        seen_bits: the same of the largest that the images gave.
        weight_unused: share of the weights' codes that no weight of a channel has, mean over the channels.
        clipped: share of outputs at the largest code, or at the smallest where that does not stand for 0.
            None where the layer gives real values.
        unused: share of the output's codes that no output had; None likewise.
    beyond: share of the output's codes below the least and above the largest that an output had; None
        likewise. Single gaps between rare codes close with more images, these do not.
        constant_channels: output channels with one value in all images.
        help: what would help; empty where nothing stands out.
    """

    layer: str
    kernel: str
    accumulator_bits: int
    seen_bits: int
    weight_unused: float
    clipped: float | None
    unused: float | None
    beyond: float | None
    constant_channels: int
    help: list[str]


@dataclass(frozen=True)
class LevelUsages:
    """All static layers; printed, it is a table."""

    rows: tuple[LevelUsage, ...]
    images: int

    def to_dicts(self) -> list[dict[str, Any]]:
        """The rows as plain values, ready for JSON."""
        return [asdict(row) for row in self.rows]

    def __str__(self) -> str:
        header = (
            "layer",
            "bound",
            "seen",
            "weights unused",
            "clipped",
            "unused",
            "kernel",
            "what would help",
        )
        cells = [
            (
                *(row.layer, f"{row.accumulator_bits} bits", f"{row.seen_bits} bits"),
                *(_percent(share) for share in (row.weight_unused, row.clipped, row.unused)),
                *(row.kernel, "; ".join(row.help)),
            )
            for row in self.rows
        ]
        return f"{aligned(header, cells, header[1:6])}\n{self.images} images"


@torch.no_grad()
def level_usage(model: nn.Module, inputs: Tensor) -> LevelUsages:
    """Run a batch and look at every static layer's accumulators and codes.

    Args:
        model: an integer model or an engine.
        inputs: float32, a batch of the model's input, the more the better.

    Raises:
        PtqxError: not such a model, an empty batch, or no layer with int32 accumulators.

    >>> import ptqx, torch
    >>> x = torch.randn(4, 1, 8, 8)
    >>> qmodel = ptqx.quantize(ptqx.models.cnn(in_channels=1, num_classes=10).eval(), [x], "int8")
    >>> [row.layer for row in level_usage(qmodel, x).rows]
    ['features.0', 'features.3', 'features.7', 'classifier']
    """
    integer = model.to_integer_model() if isinstance(model, Engine) else model
    if not isinstance(integer, IntegerModel):
        raise PtqxError(f"model: expected an integer model or an engine, got {type(model).__name__}")
    if not len(inputs):
        raise PtqxError("inputs: expected at least one image")
    layers = accumulating_layers(integer)
    if not layers:
        raise PtqxError("no layer has int32 accumulators: none is static with one scale a channel or tensor")
    values: dict[str, Tensor] = {integer.graph.input: inputs}
    integer.run(inputs, values)
    kernels = {row.name: row.kernel for row in explain(model).rows}
    rows = tuple(_row(integer, node, values, kernels.get(node.name, "")) for node in layers)
    return LevelUsages(rows, len(inputs))


def _row(model: IntegerModel, node: IntegerNode, values: dict[str, Tensor], kernel: str) -> LevelUsage:
    y = values[node.name]
    clipped = unused = beyond = None
    if node.output.dtype != "float32":
        clipped, unused, beyond = _codes_used(model, node, y)
    by_channel = y.transpose(0, 1).flatten(1)
    measured = LevelUsage(
        layer=node.name,
        kernel=kernel,
        accumulator_bits=bits_of(accumulator_bound(model, node)),
        seen_bits=bits_of(largest_accumulator(model, node, values[node.inputs[0]])),
        weight_unused=_weight_codes_unused(model, node),
        clipped=clipped,
        unused=unused,
        beyond=beyond,
        constant_channels=int((by_channel == by_channel[:, :1]).all(1).sum()),
        help=[],
    )
    measured.help.extend(_what_helps(measured, len(by_channel), _can_be_narrower(model, node)))
    return measured


def _codes_used(model: IntegerModel, node: IntegerNode, y: Tensor) -> tuple[float, float, float]:
    """Shares of outputs at an end of the range, of codes that no output has, and of those that lie outside
    all that outputs have."""
    out = model.output(node.name)
    at_end = y == out.qmax
    if int(out.zero_point) != out.qmin:
        at_end |= y == out.qmin
    counts = torch.bincount(y.flatten().long() - out.qmin, minlength=out.qmax - out.qmin + 1)
    spanned = (int(y.max()) - int(y.min()) + 1) / len(counts)
    return float(at_end.float().mean()), float((counts == 0).float().mean()), 1.0 - spanned


def _weight_codes_unused(model: IntegerModel, node: IntegerNode) -> float:
    """Codes that a channel could have with so many weights, and has not; mean over the channels."""
    values = stored_codes(model, node).values.flatten(1)
    possible = min(2 ** node.attrs["weight_bits"], values.shape[1])
    used = [len(channel.unique()) for channel in values]
    return 1.0 - min(1.0, sum(used) / len(used) / possible)


def _can_be_narrower(model: IntegerModel, node: IntegerNode) -> bool:
    """Not where scales are powers of two: half of such a range may lie idle, and signed codes after a ReLU
    leave the other half so."""
    return node.output.dtype != "float32" and float(torch.frexp(model.output(node.name).scale)[0]) != 0.5


def _what_helps(row: LevelUsage, channels: int, can_be_narrower: bool) -> list[str]:
    words = []
    if row.clipped is not None and row.clipped > CLIPPED_SHARE:
        words.append(f"{100 * row.clipped:.1f} % of outputs at the end of the range: observer minmax")
    if can_be_narrower and row.beyond is not None and row.beyond > UNUSED_SHARE:
        words.append(
            f"codes lie idle, {100 * row.beyond:.0f} % beyond all outputs: a narrower range (observer mse or "
            "percentile), activation_equalization"
        )
    if row.weight_unused > UNUSED_SHARE * 2:
        words.append("weights use few codes: a scale a channel, equalization, fewer bits")
    if row.constant_channels > DEAD_SHARE * channels:
        words.append(f"{row.constant_channels} of {channels} channels give one value: remove them")
    return words


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"
