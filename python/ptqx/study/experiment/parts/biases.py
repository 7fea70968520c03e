"""What becomes of the bias: float32, int32 in units of the accumulator, or 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ....errors import unknown_name
from ....graph import SimulatedModel
from ....graph.placement import layers
from ....graph.weights import folded
from ....quant import recipe
from ..config import Study
from ..part import Unit, Values, part
from ..rows import evaluated
from ..subject import Subject

BIASES = ("float32", "int32", "int8, own scale", "int8, accumulator's scale")


@dataclass(frozen=True)
class BiasOptions:
    """recipes: whose biases. biases: "float32", "int32", "int8, own scale" (max|b| / 127 of each layer), or
    "int8, accumulator's scale" (s_x * s_w, beyond 127 saturated)."""

    recipes: tuple[str, ...] = ("int8",)
    biases: tuple[str, ...] = BIASES

    def __post_init__(self) -> None:
        for bias in self.biases:
            if bias not in BIASES:
                raise unknown_name("bias", bias, BIASES)


@part("biases", BiasOptions)
def biases(study: Study, options: BiasOptions) -> Iterator[Unit]:
    for name in options.recipes:
        for bias in options.biases:
            depends = {"recipe": recipe(name).to_dict(), "images": study.calibration.images}
            yield Unit("biases", f"{name}, bias {bias}", _run(name, bias), depends)


def _run(name: str, bias: str) -> Callable[[Subject], Values]:
    def run(subject: Subject) -> Values:
        rounding = {"int8, own scale": round_to_own_scale, "int8, accumulator's scale": saturate}.get(bias)
        chosen = recipe(name, bias="float32" if bias == "float32" else "int32")
        prepared, evaluation = evaluated(subject, chosen, change=rounding)
        return {
            "recipe": name,
            "bias": bias,
            "biases": sum(len(b) for _, b in _biases(prepared)),
            **subject.accuracy(evaluation),
        }

    return run


def round_to_own_scale(prep: SimulatedModel) -> None:
    """Round every layer's bias to 8 bits of its own: s_b = max|b| / 127, q_b = round(b / s_b)."""
    for node, bias in _biases(prep):
        scale = bias.abs().max() / 127
        if scale > 0:
            _set_bias(prep, node, torch.round(bias / scale) * scale)


def saturate(prep: SimulatedModel) -> None:
    """Clamp every layer's bias to 8 bits in units of its accumulator: q_b = clamp(round(b / (s_x * s_w)))."""
    for node, bias in _biases(prep):
        unit = prep.qparams_of(prep.graph.nodes[node].inputs[0]).scale.double()
        unit = unit * prep.weight_quantizer(prep.graph.nodes[node]).scale.detach().double()
        _set_bias(prep, node, torch.round(bias / unit).clamp(-128, 127) * unit)


def _biases(prep: SimulatedModel) -> list[tuple[str, Tensor]]:
    """Name of each layer with a bias that can be set, and the bias with batch norm folded, float64 [out]."""
    found = []
    for node in layers(prep.graph):
        bias = folded(prep, node)[1]
        if bias is not None and node.params.keys() & {"bn_bias", "bias"}:
            found.append((node.name, bias.detach().double()))
    return found


@torch.no_grad()
def _set_bias(prep: SimulatedModel, name: str, wanted: Tensor) -> None:
    """Change the parameter that moves the folded bias one to one: batch norm's, if there is one."""
    node = prep.graph.nodes[name]
    present = folded(prep, node)[1]
    assert present is not None
    parameter = prep.tensor(node.params["bn_bias" if "bn_bias" in node.params else "bias"])
    parameter += (wanted - present.double()).to(parameter.dtype)
