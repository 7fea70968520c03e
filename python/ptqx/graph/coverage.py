"""coverage: how every step of a converted model runs, and why."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..errors import PtqxError
from ..tables import aligned
from .document import IntegerNode
from .integer import IntegerModel
from .placement import READS_REAL_VALUES


@dataclass(frozen=True)
class CoverageRow:
    """One step: its operation, "integer", "float" or "simulated" (on codes, in float
    arithmetic) execution, bits of its weights (None without),
    multiplications per sample, and why it is float ("" if it is not)."""

    name: str
    kind: str
    execution: str
    bits: int | None
    macs: int
    reason: str


@dataclass(frozen=True)
class Coverage:
    """All steps of a model. Printed, it is a table."""

    rows: tuple[CoverageRow, ...]

    @property
    def mac_share(self) -> float:
        """Share of the multiplications of layers and matrix products that run on integers, 0 to 1."""
        total = sum(row.macs for row in self.rows)
        return sum(row.macs for row in self.rows if row.execution == "integer") / total if total else 0.0

    @property
    def float_rows(self) -> tuple[CoverageRow, ...]:
        return tuple(row for row in self.rows if row.execution == "float")

    def __str__(self) -> str:
        header = ("name", "kind", "execution", "bits", "MACs", "reason")
        cells = [
            (
                r.name,
                r.kind,
                r.execution,
                "" if r.bits is None else str(r.bits),
                f"{r.macs:,}" if r.macs else "",
                r.reason,
            )
            for r in self.rows
        ]
        total = f"{100 * self.mac_share:.2f} % of {sum(r.macs for r in self.rows):,} MACs are integer"
        return f"{aligned(header, cells, ('bits', 'MACs'))}\n{total}"


@torch.no_grad()
def coverage(model: nn.Module) -> Coverage:
    """List every step of an integer model or an engine: how it runs, with how many MACs, and why if in float.

    Raises:
        PtqxError: not such a model, or nothing in it is quantized.
    """
    from .engine import Engine

    if isinstance(model, Engine):
        model = model.to_integer_model()
    if not isinstance(model, IntegerModel):
        raise PtqxError(f"model: expected an integer model or an engine, got {type(model).__name__}")
    x = torch.zeros(1, *model.graph.input_shape)
    values = {model.graph.input: x}
    model.run(x, values)
    rows = tuple(_row(node, _macs(model, node, values)) for node in model.graph)
    if not any("weight" in node.tensors and node.attrs["weight_bits"] < 32 for node in model.graph):
        raise PtqxError("nothing is quantized: every layer stayed float")
    return Coverage(rows)


def _macs(model: IntegerModel, node: IntegerNode, values: dict[str, torch.Tensor]) -> int:
    """Multiplications of one sample; those with zeros between pixels are none. Parts that stay float have
    those of their convolutions, matrix products and recurrent layers."""
    if node.op == "float":
        # oneDNN's recurrent layers are one operation, whose products nobody counts.
        with warnings.catch_warnings(), FlopCounterMode(display=False) as counter:
            warnings.simplefilter("ignore", UserWarning)  # of the GPUs that flags() asks for
            with torch.backends.mkldnn.flags(enabled=False):
                model.run_module(node, [values[name] for name in node.inputs])
        return int(counter.get_total_flops()) // 2
    if node.op == "matmul":
        return values[node.inputs[0]].shape[1] * values[node.name].numel()
    weight_shape = node.attrs.get("weight_shape")
    if not weight_shape:
        return 0
    source = model.graph.nodes.get(node.inputs[0])
    if source is not None and source.op == "upsample_zeros2d":
        return math.prod(weight_shape) * math.prod(values[source.inputs[0]].shape[2:])
    return math.prod(weight_shape[1:]) * values[node.name].numel()


def _row(node: IntegerNode, macs: int) -> CoverageRow:
    bits = node.attrs.get("weight_bits")
    in_float = node.op in ("activation", *READS_REAL_VALUES) or node.op.endswith("_float")
    is_simulated = node.op.endswith("_simulated")
    gives_real = node.output.dtype == "float32" and not _computes_on_codes(node)
    is_float = in_float or is_simulated or gives_real
    reason = node.reason or ("between layers of real values" if is_float else "")
    execution = "simulated" if is_simulated else "float" if is_float else "integer"
    return CoverageRow(node.name, node.op, execution, bits, macs, reason)


def _computes_on_codes(node: IntegerNode) -> bool:
    layers = {f"{kind}{layer}" for layer in ("conv2d", "linear") for kind in ("", "binary_")}
    layers |= {f"{layer}{kind}" for layer in ("conv2d", "linear") for kind in ("_dynamic", "_wide")}
    return node.op in {*layers, "matmul", "dequantize", "constant"}
