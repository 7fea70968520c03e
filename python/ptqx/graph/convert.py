"""convert: from the simulated model to the integer one, compared step by step."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PtqxError
from ..quant import check_finite, named_options
from .calibrate import KEPT_SAMPLES, batch_input
from .document import IntegerGraph, IntegerNode, Output
from .formulas import Codes
from .integer import IntegerModel
from .ir import Node
from .operators import OPERATORS
from .prepare import check_finite_model
from .simulated import SimulatedModel
from .structure import leaves, mapped
from .weights import folded, integer_layer, layer_codes
from .workbench import FOLDED

logger = logging.getLogger("ptqx")


@dataclass(frozen=True)
class ConversionReport:
    """What `convert` found.

    Attributes:
        samples: how many inputs were compared; 0 if there were none to compare.
        compared: nodes whose values were equal, all of them.
        agreement: share of samples for which train()'s fake-quantized arithmetic and the integer model have
            the same largest value in every output; the two are not the same arithmetic.
        largest_difference: of their outputs.
        widened: layer to how many output channels got a larger weight scale, so that their bias fits in
            int32.
    """

    samples: int
    compared: int
    agreement: float
    largest_difference: float
    widened: dict[str, int]

    def __str__(self) -> str:
        lines = ["not verified: no calibration batch was kept and no `verify` loader given"]
        if self.samples:
            lines = [
                f"{self.compared} of {self.compared} steps equal, bit by bit, to the simulated model "
                f"in eval() ({self.samples} samples)",
                f"fake-quantized training arithmetic: top-1 agreement {100 * self.agreement:.2f} %, "
                f"largest difference {self.largest_difference:.3g}",
            ]
        lines += [
            f"{name}: {count} channels with a wider weight scale" for name, count in self.widened.items()
        ]
        return "\n".join(lines)


@torch.no_grad()
def convert(prep: SimulatedModel, verify: Iterable[Any] | None = None) -> IntegerModel:
    """Make the integer model of a calibrated (or trained) simulated model, and verify it.

    On a batch, the codes of `prep` in eval() are compared with the integer model's after every step; they
    must be equal. `prep` is not changed. The findings are in `model.report` and in the log of "ptqx".

    Args:
        prep: after `ptqx.calibrate`.
        verify: a loader whose first batch is compared; None takes samples that `calibrate` kept.

    Raises:
        PtqxError: not calibrated; NaN or infinite weights; a step whose values differ.
    """
    if not isinstance(prep, SimulatedModel):
        raise PtqxError(f"prep: expected a model of ptqx.prepare, got {type(prep).__name__}")
    check_finite_model(prep)
    _warn_of_methods(prep)
    prep = _in_eval(prep)
    prep.require_calibrated()
    model = _lowered(prep)
    model.report = _compared(prep, model, _verification_batch(prep, verify))
    logger.info("%s", model.report)
    return model


def _warn_of_methods(prep: SimulatedModel) -> None:
    if prep.recipe.methods and not prep.qat and not hasattr(prep, FOLDED):
        names = ", ".join(name for name, _ in map(named_options, prep.recipe.methods))
        logger.warning("the recipe's methods have not run: %s; ptqx.graph.apply_methods runs them", names)


def _in_eval(prep: SimulatedModel) -> SimulatedModel:
    """The model itself if it is in eval() on the CPU, else a copy that is."""
    on_cpu = all(t.device.type == "cpu" for t in [*prep.parameters(), *prep.buffers()])
    if on_cpu and not any(module.training for module in prep.modules()):
        return prep
    return copy.deepcopy(prep).cpu().eval()


def _lowered(prep: SimulatedModel) -> IntegerModel:
    nodes: dict[str, IntegerNode] = {}
    tensors: dict[str, Tensor] = {}
    modules: dict[str, nn.Module] = {}
    alias: dict[str, str] = {}
    for node in prep.graph:
        inputs = tuple(alias.get(name, name) for name in node.inputs)
        if node.op == "dropout":
            alias[node.name] = inputs[0]
            continue
        lowered = OPERATORS[node.op].lower(prep, node)
        output = _output(prep, node, tensors)
        names = {role: f"{node.name}.{role}" for role in lowered.tensors}
        tensors.update({names[role]: tensor.contiguous() for role, tensor in lowered.tensors.items()})
        if node.op == "float":
            _copy_float_part(prep, node, tensors, modules)
        nodes[node.name] = IntegerNode(
            *(node.name, lowered.op or node.op, inputs, lowered.attrs, names, output),
            lowered.reason or _reason(node),
        )
    output = mapped(prep.graph.output, lambda name: alias.get(name, name))
    graph = IntegerGraph(prep.graph.input, prep.graph.input_shape, output, nodes)
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            check_finite(tensor, name)
    return IntegerModel(graph, tensors, modules)


def _output(prep: SimulatedModel, node: Node, tensors: dict[str, Tensor]) -> Output:
    qparams = prep.qparams(node)
    if qparams is None or node.quantizer is None:
        return Output()
    owner = prep.graph.quantizers[node.quantizer].owner
    scale, zero_point = f"{owner}.output_scale", f"{owner}.output_zero_point"
    tensors[scale] = qparams.scale.reshape(1).clone()
    tensors[zero_point] = qparams.zero_point.reshape(1).to(torch.int32)
    dtype = "uint8" if qparams.steps <= 255 else "int16"
    return Output(dtype, scale, zero_point, qparams.qmin, qparams.qmax)


def _reason(node: Node) -> str:
    """Why the node computes in float, and where it was written; "" if it does not."""
    if node.op != "float":
        return node.reason if node.op.endswith("_float") else ""
    return f"{node.reason} at {node.source}" if node.source else node.reason


def _copy_float_part(
    prep: SimulatedModel, node: Node, tensors: dict[str, Tensor], modules: dict[str, nn.Module]
) -> None:
    if node.module is not None:
        module = copy.deepcopy(prep.get_submodule(node.module))
        for parameter in module.parameters():  # TorchScript has no requires_grad_ for all of them
            parameter.requires_grad_(False)
        modules[node.module] = _Scripted(module) if isinstance(module, torch.jit.ScriptModule) else module
    for path in node.params.values():
        tensors[path] = prep.tensor(path).detach().clone()


class _Scripted(nn.Module):
    """Holds TorchScript, which takes no further modules: those of the steps around it."""

    def __init__(self, script: nn.Module) -> None:
        super().__init__()
        self.script = script

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.script(*args, **kwargs)


def _verification_batch(prep: SimulatedModel, verify: Iterable[Any] | None) -> Tensor | None:
    if verify is None:
        return None if prep.verification_batch is None else prep.verification_batch.cpu()
    batch = next(iter(verify), None)
    if batch is None:
        raise PtqxError("verify: the loader is empty; give at least one batch")
    return batch_input(batch, prep.graph.input_shape)[:KEPT_SAMPLES].cpu()


def _compared(prep: SimulatedModel, model: IntegerModel, batch: Tensor | None) -> ConversionReport:
    widened = _widened_channels(prep)
    if batch is None:
        return ConversionReport(0, 0, float("nan"), float("nan"), widened)
    expected: dict[str, Tensor | Codes] = {}
    got: dict[str, Tensor] = {}
    prep.exact(batch, expected)
    outputs = leaves(model.run(batch, got))
    for name in model.graph.nodes:
        _require_equal(name, model.graph.nodes[name].op, expected[name], got[name])
    trained = leaves(prep.fake_quantized(batch))
    pairs = list(zip(trained, outputs, strict=True))
    same = torch.stack([a.flatten(1).argmax(1) == b.flatten(1).argmax(1) for a, b in pairs]).all(0)
    difference = max(float((a - b).abs().max()) for a, b in pairs)
    return ConversionReport(
        len(batch), len(model.graph.nodes), float(same.float().mean()), difference, widened
    )


def _require_equal(name: str, op: str, expected: Tensor | Codes, got: Tensor) -> None:
    values = expected.values if isinstance(expected, Codes) else expected
    different = values != got.to(values.dtype)
    if values.shape != got.shape or bool(different.any()):
        count = int(different.sum()) if values.shape == got.shape else -1
        raise PtqxError(
            f"{name} ({op}): {count} of {got.numel()} values of the integer model differ from the "
            "simulated one; it is the first step that differs, and a defect of ptqx"
        )


def _widened_channels(prep: SimulatedModel) -> dict[str, int]:
    widened = {}
    for node in prep.graph:
        if node.op in ("conv2d", "linear"):
            codes = integer_layer(prep, node, prep.qparams_of(node.inputs[0])).codes
            count = int((codes.scale != layer_codes(prep, node, folded(prep, node)[0]).scale).sum())
            if count:
                widened[node.name] = count
    return widened
