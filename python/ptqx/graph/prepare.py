"""prepare: from a float model to a simulated one."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import PtqxError, listed
from ..quant import Recipe, Scheme, check_finite
from ..quant import recipe as find_recipe
from .capture import capture, example_tensor
from .fusion import LAYERS, fuse, fuse_residuals
from .ir import Graph
from .placement import MOVERS, assign_kinds, layers, place_quantizers
from .simulated import QUANTIZERS, SimulatedModel
from .source_model import source_model
from .structure import leaves_by_path

CAPTURE_TOLERANCE = 1e-3  # of the largest output: folding a batch norm moves roundings, nothing more
# Beyond that, what rounding alone may make of a network's outputs, as a multiple of what it makes of the
# model's own; but at most so much of them, where nothing could be told from noise.
ROUNDING_MARGIN, MOST_ROUNDING = 4.0, 1e-2


def prepare(
    model: nn.Module, recipe: str | Recipe = "int8", example_inputs: Any = None, qat: bool = False
) -> SimulatedModel:
    """Make the simulated model: captured, fused, with quantizers where the integer network rounds.

    `model` is not changed; it may be wrapped by DataParallel or torch.compile. Batch norms are folded into
    their layers; with `qat` they stay unfolded in train(), their statistics keep learning, and the folded
    weights are what is quantized.

    Args:
        model: takes one float32 tensor with the batch first, returns one, or tuples, lists and dicts of
            them.
        recipe: a preset's name ("int8", "w4a8", "int8-dynamic", …) or a Recipe.
        example_inputs: a tensor of the shape the model takes, or a tuple with one; any batch size.
        qat: for quantization-aware training. Its quantizers are the recipe's, by default learned ("lsq").
            Where they learn scales, those of weights of more than 5 bits and of 8-bit images do not: they
            follow the weights ("moving_average") and stay as calibrated ("fixed").

    Raises:
        PtqxError: the model can't be captured, holds NaN or infinite values, or has no layer to quantize.

    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    >>> prep = prepare(model, "int8", torch.zeros(1, 3, 8, 8))
    >>> [node.op for node in prep.graph]
    ['quantize', 'conv2d']
    """
    if isinstance(model, SimulatedModel):
        raise PtqxError("model: it is prepared already; give prepare the float model")
    chosen = find_recipe(recipe)
    example = example_tensor(example_inputs)
    copied = source_model(model)
    check_finite_model(copied)
    reference = copy.deepcopy(copied).eval()
    graph = capture(copied, example)
    for name, values in graph.constants.items():
        if isinstance(values, nn.Parameter):
            copied.register_parameter(name, values)
        else:
            copied.register_buffer(name, values.detach().clone())
    fuse(graph)
    schemes = assign_kinds(graph, chosen)
    if chosen.residual == "fused":
        fuse_residuals(graph)
    if not any(node.kind in ("static", "dynamic", "weight_only") for node in layers(graph)):
        in_float = listed([f"{node.name} ({node.reason})" for node in graph if node.op == "float"])
        raise PtqxError(
            "nothing to quantize: the model has no convolution or linear layer that ptqx can take"
            + (f"; what stays float: {in_float}" if in_float else "")
        )
    schemes = {
        name: (_layer_scheme(graph, name, weights), activations)
        for name, (weights, activations) in schemes.items()
        if name in graph.nodes  # not fused into another
    }
    for name, (_, activations) in schemes.items():
        _check_dynamic(graph, name, schemes[name][0], activations)
    place_quantizers(graph, chosen, schemes)
    if chosen.requantize != "float":
        _check_without_floats(graph, schemes)
    prep = SimulatedModel(copied, graph, chosen, schemes, qat)
    prep.fit_weights()
    _check_capture(reference, prep, example)
    return prep


def check_finite_model(model: nn.Module) -> None:
    """Raise a PtqxError that names the first parameter or buffer with NaN or infinite values."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        # Observers start from an infinite range.
        if tensor.is_floating_point() and not name.startswith(f"{QUANTIZERS}."):
            check_finite(tensor, name)


def _layer_scheme(graph: Graph, name: str, scheme: Scheme | None) -> Scheme | None:
    """Per group needs more input channels than one group; other layers get a scale per output channel."""
    if scheme is None or not scheme.group_size:
        return scheme
    node = graph.nodes[name]
    channels = graph.shape(node.inputs[0])[0]
    if node.attrs.get("groups", 1) > 1 or channels <= scheme.group_size:
        return replace(scheme, granularity="channel", group_size=0)
    if node.kind == "dynamic" or not scheme.symmetric:
        raise PtqxError(
            f"{name}: weights per group need symmetric codes and activations that are not dynamic"
        )
    return scheme


def _check_dynamic(graph: Graph, name: str, weights: Scheme | None, activations: Scheme | None) -> None:
    """Ranges found at run time are ONNX's DynamicQuantizeLinear: codes 0 to 255."""
    if graph.nodes[name].kind != "dynamic" or activations is None:
        return
    if weights is not None and not weights.on_grid:
        raise PtqxError(
            f"{name}: levels {weights.levels!r} are no whole numbers, which dynamic activations need; use "
            "static activations (simulated) or none (weight-only)"
        )
    if (activations.qmin, activations.qmax) != (0, 255):
        raise PtqxError(
            f"{name}: dynamic activations have unsigned codes of 8 bits, got {activations.bits} bits, "
            f"signed={activations.signed}; change the bits of the weights alone"
        )


# What computes on codes without floats; tables only of 8-bit codes.
WITHOUT_FLOATS = {*MOVERS, *LAYERS, "quantize", "dequantize", "add", "mul", "cat", "lookup"}
WITHOUT_FLOATS |= {"avg_pool2d", "adaptive_avg_pool2d"}


def _check_without_floats(graph: Graph, schemes: dict[str, tuple[Scheme | None, Scheme | None]]) -> None:
    for node in graph:
        weights = schemes.get(node.name, (None, None))[0]
        if weights is not None and (weights.group_size or not weights.on_grid):
            raise PtqxError(f"{node.name}: weights per group or off the grid need requantize='float'")
        site = graph.quantizers.get(node.quantizer or "")
        wide = site is not None and site.scheme.bits > 8
        if site is not None and (node.op not in WITHOUT_FLOATS or (wide and node.op in ("lookup", "cat"))):
            raise PtqxError(
                f"{node.name}: {node.op} of {site.scheme.bits}-bit codes needs floats: use "
                f"requantize='float'{', or 8 bits' if wide and node.op in WITHOUT_FLOATS else ''}"
            )


def _check_capture(reference: nn.Module, prep: SimulatedModel, example: Tensor) -> None:
    """The captured network must compute what the model computes, for one and for two samples."""
    for count in (1, 2):
        batch = torch.cat([example, example])[:count]
        with torch.no_grad():
            subject = "model"
            try:
                returned = reference(batch.clone())
                subject = "captured network"
                got = dict(leaves_by_path(prep.float_output(batch)))
            except RuntimeError as failure:
                raise PtqxError(
                    f"the {subject} fails with {count} samples ({str(failure).splitlines()[0]}); does the "
                    "model's forward depend on the batch size?"
                ) from failure
        expected = dict(leaves_by_path(returned))
        rounding: dict[str, _Difference] | None = None
        for path, values in got.items():
            name = f"output {path}" if path else "output"
            if expected[path].shape != values.shape:
                raise PtqxError(
                    f"the captured network gives shape {tuple(values.shape)} for {count} samples, "
                    f"the model {tuple(expected[path].shape)}{f' ({name})' if path else ''}"
                )
            error = _Difference.of(values, expected[path])
            if error.largest <= CAPTURE_TOLERANCE:
                continue
            rounding = _rounding(reference, batch) if rounding is None else rounding
            if not error.within(rounding.get(path)):
                raise PtqxError(
                    f"the captured network differs from the model by {error.largest:.3g} of the largest "
                    f"{name}; does its forward change tensors in place, have hooks, or depend on values or "
                    "on the batch size?"
                )


class _Difference(NamedTuple):
    """Of two tensors: the largest of an element, as a share of the largest, and that of the norm."""

    largest: float
    norm: float

    @classmethod
    def of(cls, got: Tensor, expected: Tensor) -> _Difference:
        if not got.numel():
            return cls(0.0, 0.0)
        got, expected = got.double(), expected.double()
        difference = got - expected
        return cls(
            float(difference.abs().max() / expected.abs().max().clamp(min=1e-12)),
            float(difference.norm() / expected.norm().clamp(min=1e-12)),
        )

    def within(self, rounding: _Difference | None) -> bool:
        """By either measure: where a maximum's index decides which element is written, roundings move single
        ones as far as there is."""
        return rounding is not None and any(
            own <= ROUNDING_MARGIN * min(of_model, MOST_ROUNDING)
            for own, of_model in zip(self, rounding, strict=True)
        )


@torch.no_grad()
def _rounding(reference: nn.Module, batch: Tensor) -> dict[str, _Difference]:
    """What float32 makes of the model's own outputs: networks that aren't trained can amplify it by far.
    Nothing if the model can't compute in float64."""
    try:
        exact = dict(leaves_by_path(copy.deepcopy(reference).double()(batch.double())))
    except RuntimeError:
        return {}
    rounded = leaves_by_path(reference(batch.clone()))
    return {path: _Difference.of(exact[path], values) for path, values in rounded}
