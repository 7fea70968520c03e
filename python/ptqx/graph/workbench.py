"""What post-training methods work on: a calibrated model, the float network, and calibration inputs."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PtqxError
from ..quant import Quantizer
from .calibrate import batch_input, calibrate
from .ir import Node
from .simulated import SimulatedModel
from .spill import Spill
from .weights import folded

BATCH = 64  # samples that run through the networks at a time
FOLDED = "folded"
LAYER_OPS = tuple(f"{kind}{suffix}" for kind in ("conv2d", "linear") for suffix in ("", "_dynamic", "_float"))


class Workbench:
    """Holds what the methods of a recipe share, from the first to the last.

    Args:
        prep: calibrated; it is changed in place.
        loader: the calibration batches, which are kept, in temporary files if they are many.
        progress: show progress bars.

    Attributes:
        prep: its batch norms are folded for good: `folded` holds every layer's own weight and bias.
        reference: the float network, which methods compare with. Those that change the float network
            (equalization) change it too.
        inputs: float32 [N, ...], all calibration samples.

    Raises:
        PtqxError: a model prepared with `qat=True`, or no calibration data.
    """

    def __init__(self, prep: SimulatedModel, loader: Iterable[Any], progress: bool = False) -> None:
        if prep.qat:
            raise PtqxError(
                "methods fold batch norms for good; they need a model prepared with qat=False, got qat=True"
            )
        prep.require_calibrated()
        self.prep = prep.eval()
        self.progress = progress
        self.spill = Spill()
        self.inputs = self._gathered(loader)
        own_weights(prep)
        self.reference = copy.deepcopy(prep)

    @property
    def layers(self) -> list[Node]:
        """Layers with quantized weights, in execution order."""
        return [n for n in self.prep.graph if n.op in LAYER_OPS and n.kind != "float"]

    def weight(self, node: Node) -> Tensor:
        """The layer's weight as it is now: float, or rounded by a method."""
        return self.prep.tensor(node.params["weight"]).detach()

    def bias(self, node: Node) -> Tensor:
        """Its bias, zeros if it has none."""
        if "bias" in node.params:
            return self.prep.tensor(node.params["bias"]).detach()
        return self.weight(node).new_zeros(len(self.weight(node)))

    def quantizer(self, node: Node) -> Quantizer:
        """The quantizer of its weight."""
        return self.prep.weight_quantizer(node)

    def set_weight(self, node: Node, weight: Tensor) -> None:
        set_layer(self.prep, node.name, weight, None)

    def set_bias(self, node: Node, bias: Tensor) -> None:
        set_layer(self.prep, node.name, None, bias)

    def set_float(self, node: Node, weight: Tensor, bias: Tensor | None) -> None:
        """Change the float network, here and in the reference; `recalibrate` when all is changed."""
        for model in (self.prep, self.reference):
            set_layer(model, node.name, weight, bias)

    def recalibrate(self) -> None:
        """Find all scales again."""
        calibrate(self.prep, self.inputs.split(BATCH))

    def _gathered(self, loader: Iterable[Any]) -> Tensor:
        shape = self.prep.graph.input_shape
        parts = [batch_input(batch, shape) for batch in loader]
        if not parts:
            raise PtqxError("loader: the calibration set is empty; give at least one batch")
        inputs = self.spill.empty(sum(map(len, parts)), *shape)
        return torch.cat(parts, out=inputs)


@torch.no_grad()
def own_weights(prep: SimulatedModel) -> None:
    """Give every layer a folded weight and bias of its own, under `folded`; nothing computes differently."""
    if hasattr(prep, FOLDED):
        return
    parameters = nn.ParameterDict()
    layers = [node for node in prep.graph if node.op in LAYER_OPS]
    values = [folded(prep, node) for node in layers]
    prep.register_module(FOLDED, parameters)
    for node, (weight, bias) in zip(layers, values, strict=True):
        for role in [role for role in node.params if role != "slopes"]:
            del node.params[role]
        for key in ("bn_eps", "bn_module", "transposed"):
            node.attrs.pop(key, None)
        set_layer(prep, node.name, weight, bias)


@torch.no_grad()
def set_layer(prep: SimulatedModel, name: str, weight: Tensor | None, bias: Tensor | None) -> None:
    """Set the weight and the bias of a layer that `own_weights` has prepared; None leaves them."""
    node = prep.graph.nodes[name]
    parameters: Any = prep.get_submodule(FOLDED)
    for role, value in (("weight", weight), ("bias", bias)):
        if value is not None:
            key = f"{name.replace('.', '/')}/{role}"
            parameters[key] = nn.Parameter(value.detach().clone().float())
            node.params[role] = f"{FOLDED}.{key}"
