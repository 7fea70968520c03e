"""The simulated model: the float network with quantizers, to calibrate, to train, and to compute exact
codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PtqxError
from ..quant import QUANTIZERS as QUANTIZER_CLASSES
from ..quant import Quantizer, Recipe, Scheme, check_finite, make_quantizer
from .formulas import Codes, QParams
from .ir import Graph, Node, last_uses
from .operators import OPERATORS
from .operators.base import Mover
from .structure import mapped
from .weights import folded, quantizer_view, raw_weight

QUANTIZERS = "quantizers"

# The largest weight of a channel lies at the end of its range, and its gradient counts qmax times in that of
# the scale: with many levels one step of the optimizer can move the scale to hundreds of times its value,
# where all weights round to 0 for good. So scales of wide weights follow the largest weight instead.
MOST_LEARNED_BITS = 5


class SimulatedModel(nn.Module):
    """A float network with quantizers between its operations. Made by `ptqx.prepare`.

    Submodules, parameters and buffers keep the names they have in the float model; the quantizers are under
    `quantizers`. It runs in three ways:

    - inside `observe()`: the float network; quantizers take statistics (`ptqx.calibrate`).
    - in train(): fake-quantized float32, with gradients; compiles as one graph.
    - in eval(): integer codes, held in float32 and convolved by PyTorch itself: the same numbers, bit by bit,
    as the
      integer model that `ptqx.convert` makes of it.

    Attributes:
        graph: the operations in order.
        recipe: how they are quantized.
        qat: batch norms stay unfolded in train() and learn their statistics; scales of a weight's channels or
            groups are in units of the unfolded weight, and fold with it.
        verification_batch: inputs kept from calibration, with which `convert` compares.
        history: a row per epoch of the training that it has had.
    """

    quantizers: nn.ModuleDict

    def __init__(
        self,
        model: nn.Module,
        graph: Graph,
        recipe: Recipe,
        schemes: dict[str, tuple[Scheme | None, Scheme | None]],
        qat: bool,
    ) -> None:
        super().__init__()
        if hasattr(model, QUANTIZERS):
            raise PtqxError(
                f"the model has an attribute {QUANTIZERS!r}, the name that ptqx needs for its own"
            )
        self._modules.update(model._modules)
        self._parameters.update(model._parameters)
        self._buffers.update(model._buffers)
        self._non_persistent_buffers_set = set(model._non_persistent_buffers_set)
        self.training = model.training
        self.graph = graph
        self.recipe = recipe
        self.schemes = schemes
        self.qat = qat
        self.observing = False
        self._take_statistics = True
        self.verification_batch: Tensor | None = None
        self.history: list[dict[str, int | float]] = []
        self.quantizers = nn.ModuleDict()
        kind = recipe.quantizer or ("lsq" if qat else "fixed")
        learned = QUANTIZER_CLASSES[kind].learned
        for node in graph:
            weights = schemes.get(node.name, (None, None))[0]
            if weights is not None:
                follows = learned and weights.levels == "uniform" and weights.bits > MOST_LEARNED_BITS
                weight_kind = "moving_average" if follows else kind
                self.quantizers[_key(node.name, "weight")] = self._make_weight_quantizer(
                    node, weights, weight_kind
                )
        for name, site in graph.quantizers.items():
            # The gradient of the images' scale would take a convolution of its own, for nothing at 8 bits.
            rests = graph.nodes[name].inputs == [graph.input] and site.scheme.bits >= 8 and learned
            self.quantizers[_key(name, "output")] = make_quantizer(
                site.scheme, "fixed" if rests else kind, name=name
            )
        self._finished_with = last_uses(graph, graph.outputs)
        self._code_quantizers = _read_by_layers_only(graph, schemes)

    @contextmanager
    def observe(self, statistics: bool = True) -> Iterator[None]:
        """Inside, forward is the float network in eval(); the quantizers of activations take statistics."""
        modes = {module: module.training for module in self.modules()}
        self.eval()
        self.observing, self._take_statistics = True, statistics
        try:
            yield
        finally:
            self.observing = False
            for module, training in modes.items():
                module.training = training

    def float_output(self, x: Tensor, keep: dict[str, Tensor] | None = None) -> Any:
        """The float network in eval(), batch norms folded, nothing quantized or observed. `keep` receives
        what every node gives."""
        with self.observe(statistics=False):
            return self.fake_quantized(x, keep)

    def forward(self, x: Tensor) -> Any:
        if self.observing or self.training:
            return self.fake_quantized(x)
        with torch.autocast(x.device.type, enabled=False):
            return self.exact(x)

    def fake_quantized(self, x: Tensor, keep: dict[str, Tensor] | None = None) -> Any:
        """The arithmetic of train(), with batch norms and dropout as their own modes say. `keep` receives
        what every node gives."""
        values: dict[str, Any] = {self.graph.input: x}
        for node in self.graph.nodes.values():
            y = self.step(node, *(values[name] for name in node.inputs))
            values[node.name] = y
            if keep is not None:
                keep[node.name] = y
            for name in self._finished_with.get(node.name, ()):
                del values[name]
        return mapped(self.graph.output, values.__getitem__)

    def step(self, node: Node, *inputs: Tensor) -> Tensor:
        """One node of `fake_quantized`."""
        y = OPERATORS[node.op].train(self, node, *inputs)
        if node.quantizer is not None and self.graph.quantizers[node.quantizer].owner == node.name:
            if not self.observing:
                return self._quantized(node.quantizer, y)
            if self._take_statistics:
                self.activation_quantizer(node.quantizer).observe(y)
        return y

    def passes_codes(self, key: str | None, x: Tensor) -> bool:
        """Whether the values of that quantizer are passed on as codes, of which bfloat16 holds each: under
        autocast, where nobody but layers that multiply by the scale later reads them."""
        return (
            key is not None
            and key in self._code_quantizers
            and not self.observing
            and self.activation_quantizer(key).enabled
            and torch.is_autocast_enabled(x.device.type)
        )

    def _quantized(self, key: str, x: Tensor) -> Tensor:
        quantizer = self.activation_quantizer(key)
        if self.passes_codes(key, x):
            return quantizer.forward_codes(x)
        return quantizer(x.float())  # bfloat16, under autocast, can't hold codes times a scale

    @torch.no_grad()
    def exact(self, x: Tensor, keep: dict[str, Tensor | Codes] | None = None) -> Any:
        """The numbers of the integer model, by the written formulas. `keep` receives what every node
        gives."""
        if not torch.compiler.is_compiling():
            self.require_calibrated()
        values: dict[str, Any] = {self.graph.input: x.float()}
        for node in self.graph.nodes.values():
            values[node.name] = OPERATORS[node.op].exact(self, node, *(values[name] for name in node.inputs))
            if keep is not None:
                keep[node.name] = values[node.name]
            for name in self._finished_with.get(node.name, ()):
                del values[name]
        return mapped(self.graph.output, values.__getitem__)

    def require_calibrated(self) -> None:
        """
        Raises:
            PtqxError: a quantizer has no scale yet.
        """
        for quantizer in self.quantizers.values():
            quantizer.require_calibrated()  # type: ignore[operator]

    @torch.no_grad()
    def fit_weights(self) -> None:
        """Set the scales of all weights from the weights as they are now.

        Raises:
            PtqxError: NaN or infinite weights, with the layer and the count.
        """
        for node in self.graph:
            if _key(node.name, "weight") in self.quantizers:
                weight, bias = folded(self, node)
                check_finite(weight, f"{node.name}: weight")
                if bias is not None:
                    check_finite(bias, f"{node.name}: bias")
                self.weight_quantizer(node).fit(quantizer_view(self, node))

    def tensor(self, path: str) -> Tensor:
        """The parameter or buffer of the float model at a dotted path."""
        owner, _, name = path.rpartition(".")
        return getattr(self.get_submodule(owner), name)

    def weight_quantizer(self, node: Node) -> Quantizer:
        return self.quantizers[_key(node.name, "weight")]  # type: ignore[return-value]

    def activation_quantizer(self, key: str) -> Quantizer:
        return self.quantizers[_key(key, "output")]  # type: ignore[return-value]

    def input_scheme(self, node: Node) -> Scheme:
        """The scheme of a layer's input."""
        scheme = self.schemes[node.name][1]
        assert scheme is not None
        return scheme

    def input_scale(self, node: Node) -> Tensor | None:
        """The scale of a layer's input as a scalar; None if it has none or is observed."""
        key = self.graph.nodes[node.inputs[0]].quantizer if node.inputs[0] in self.graph.nodes else None
        return None if key is None or self.observing else self.activation_quantizer(key).scale.reshape(())

    def qparams(self, node: Node) -> QParams | None:
        """What the codes of a node mean, as unsigned codes; None for real values."""
        if node.quantizer is None:
            return None
        quantizer = self.activation_quantizer(node.quantizer)
        scheme = quantizer.scheme
        if scheme.of_activations:  # the signs as codes 0 and 2: padding is the zero point between them
            scale = quantizer.scale.detach().reshape(())
            return QParams(scale, torch.ones_like(scale), 0, 2)
        shift = -min(scheme.qmin, 0) if scheme.bits <= 8 else 0
        zero_point = quantizer.zero_point.detach().float().reshape(()) + shift
        return QParams(
            quantizer.scale.detach().reshape(()), zero_point, scheme.qmin + shift, scheme.qmax + shift
        )

    def qparams_of(self, name: str) -> QParams:
        """The same for the node `name`, which gives codes."""
        qparams = self.qparams(self.graph.nodes[name])
        assert qparams is not None, name
        return qparams

    def _make_weight_quantizer(self, node: Node, scheme: Scheme, kind: str) -> Quantizer:
        shape = raw_weight(self, node).shape
        groups = -(-shape[1] // scheme.group_size) if scheme.group_size else 1
        return make_quantizer(scheme, kind, shape[0], groups, f"{node.name}: weight")


def _key(name: str, role: str) -> str:
    """Names in a ModuleDict can't hold dots."""
    return f"{name.replace('.', '/')}/{role}"


def _read_by_layers_only(
    graph: Graph, schemes: dict[str, tuple[Scheme | None, Scheme | None]]
) -> frozenset[str]:
    """The quantizers whose values only static layers read, at once or through operations that move them."""
    others = {graph.nodes[name].quantizer for name in graph.outputs if name in graph.nodes}
    for node in graph:
        weights = schemes.get(node.name, (None, None))[0]
        takes_codes = node.kind == "static" and weights is not None and not weights.group_size
        for position, name in enumerate(node.inputs):
            key = graph.nodes[name].quantizer if name in graph.nodes else None
            moved = isinstance(OPERATORS[node.op], Mover) and node.quantizer == key
            if not moved and not (takes_codes and position == 0):
                others.add(key)
    return frozenset(graph.quantizers) - others
