"""What a layer computes with: folded float weights, their codes, the integer bias."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ..errors import PtqxError
from ..quant import FLOAT_DTYPES, MIN_SCALE, LevelQuantizer, level_of, level_offset, next_power_of_two
from .formulas import MAX_ACCUMULATOR, QParams
from .ir import Node

if TYPE_CHECKING:
    from .simulated import SimulatedModel

MAX_INPUT = 255  # largest |q_x - zero_point| that kernels assume
EXACT_IN_FLOAT64 = 2**53  # what the simulated model can sum of 16-bit codes
TINY_FACTOR = 1e-8  # smallest |gamma / std| that unfolded training divides by
SCALES_OF_THEIR_OWN = ("fixed", "shift")  # levels with powers of two as scales, with offsets in real units


class LayerCodes(NamedTuple):
    """Weights as signed numbers in float32: real = scale * (values - zero_point).

    The values are the codes of `bits` bits, or what `levels` say that the codes stand for. They are whole
    numbers, except where the scheme's levels are not (`Levels.on_grid`).
    """

    values: Tensor  # OIHW or [out, in]
    scale: Tensor  # [1], [out] or [out, groups of input channels]
    zero_point: Tensor | None  # float32, shaped like scale; None is 0
    bits: int
    group_size: int
    codes: Tensor | None = None  # of the values' shape; None: the values themselves
    levels: Tensor | None = None  # float32 [1 or out, 2**bits], of the smallest code first
    on_grid: bool = True  # values and zero point are whole numbers

    def centered(self) -> Tensor:
        """values - zero_point"""
        return self.values if self.zero_point is None else self.values - _column(self.zero_point, self.values)

    def real(self) -> Tensor:
        scale = self.scale
        if self.group_size:
            scale = scale.repeat_interleave(self.group_size, dim=1)[:, : self.values.shape[1]]
        return self.centered() * _column(scale, self.values)


def _column(parameter: Tensor, weight: Tensor) -> Tensor:
    return parameter.reshape(parameter.shape + (1,) * (weight.dim() - parameter.dim()))


def raw_weight(model: SimulatedModel, node: Node) -> Tensor:
    """The layer's own weight, OIHW or [out, in], also of a transposed convolution; ones for a batch
    norm, a scale, a bias or a PReLU that runs as a 1x1 convolution of each channel."""
    if "weight" in node.params:
        weight = model.tensor(node.params["weight"])
        if node.attrs.get("transposed"):
            return _of_convolution(weight, node.attrs["groups"])
        if "kernel_size" not in node.attrs:
            return weight
        if weight.dim() == 3:  # of a convolution of sequences
            return weight.unsqueeze(2)
        return weight[:, :, None, None] if weight.dim() == 2 else weight
    reference = next(model.tensor(path) for role, path in node.params.items() if role != "weight")
    return torch.ones(node.shape[0], 1, 1, 1, dtype=torch.float32, device=reference.device)


def _of_convolution(weight: Tensor, groups: int) -> Tensor:
    """[in, out / groups, KH, KW] of a transposed convolution as OIHW of the convolution that it is."""
    return weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1).flip(2, 3)


def batch_norm_factor(model: SimulatedModel, node: Node) -> Tensor:
    """gamma / sqrt(running_var + eps), float64 [out]."""
    variance = model.tensor(node.params["bn_running_var"]).double()
    factor = torch.rsqrt(variance + node.attrs["bn_eps"])
    return factor * model.tensor(node.params["bn_weight"]).double() if "bn_weight" in node.params else factor


def training_factor(model: SimulatedModel, node: Node) -> Tensor | None:
    """What a weight is multiplied by before it is quantized in unfolded training, float32 [out]; None without
    a batch norm.

    The signs of `batch_norm_factor` where every channel has scales of its own: these are then in units of the
    unfolded weight, and no code depends on a running variance. (If one did, a channel whose weights round to
    nothing would see its variance vanish, its factor and so its codes grow, and swing like that for good.) A
    scale that channels share, or that is no plain factor of the levels, needs the whole `batch_norm_factor`;
    nearly 0 becomes `TINY_FACTOR`, because the result is divided by it.
    """
    if not (model.qat and "bn_eps" in node.attrs):
        return None
    if _scales_are_unfolded(model, node):
        sign_of = model.tensor(node.params.get("bn_weight", node.params["bn_running_var"]))
        return torch.where(sign_of.detach() < 0, -1.0, 1.0)
    factor = batch_norm_factor(model, node).float()
    return torch.where(factor.abs() < TINY_FACTOR, torch.full_like(factor, TINY_FACTOR), factor)


def quantizer_view(model: SimulatedModel, node: Node) -> Tensor:
    """The weight as its quantizer sees it: times `training_factor`, else folded."""
    factor = training_factor(model, node)
    if factor is None:
        return folded(model, node)[0]
    weight = raw_weight(model, node)
    return weight * _column(factor, weight)


def _scales_are_unfolded(model: SimulatedModel, node: Node) -> bool:
    if not (model.qat and "bn_eps" in node.attrs):
        return False
    scheme = model.weight_quantizer(node).scheme
    return scheme.granularity != "tensor" and scheme.levels not in SCALES_OF_THEIR_OWN


def _in_folded_units(model: SimulatedModel, node: Node, scale: Tensor) -> Tensor:
    """A quantizer's scale, [1], [out] or [out, groups], as one of the folded weight."""
    if not _scales_are_unfolded(model, node):
        return scale
    factor = batch_norm_factor(model, node).detach().abs().float()
    return (scale * _column(factor, scale)).clamp(min=MIN_SCALE)


def folded(model: SimulatedModel, node: Node) -> tuple[Tensor, Tensor | None]:
    """Weight and bias, float32, of the layer with its batch norm in eval():

    weight * factor and (bias - running_mean) * factor + beta, computed in float64; without one, weight *
    layer_scale and bias * layer_scale + layer_bias, as far as it has them.
    """
    weight = raw_weight(model, node)
    bias = model.tensor(node.params["bias"]) if "bias" in node.params else None
    if "layer_scale" in node.params:
        scale = _layer_parameter(model, node, "layer_scale", torch.reciprocal)
        weight = weight.float() * _column(scale, weight)
        bias = None if bias is None else bias.float() * scale
    if "layer_bias" in node.params:
        shift = _layer_parameter(model, node, "layer_bias", torch.neg).expand(len(weight))
        bias = shift if bias is None else bias.float() + shift
    if "bn_eps" not in node.attrs:
        return weight.float(), None if bias is None else bias.float()
    factor = batch_norm_factor(model, node)
    mean = model.tensor(node.params["bn_running_mean"]).double()
    shifted = (0.0 if bias is None else bias.double()) - mean
    shifted = shifted * factor
    if "bn_bias" in node.params:
        shifted = shifted + model.tensor(node.params["bn_bias"]).double()
    return (weight.double() * _column(factor, weight)).float(), shifted.float()


def _layer_parameter(
    model: SimulatedModel, node: Node, role: str, inverted: Callable[[Tensor], Tensor]
) -> Tensor:
    """float32 [1] or [out]"""
    values = model.tensor(node.params[role]).flatten().float()
    return inverted(values) if node.attrs.get(f"{role}_inverse") else values


def in_float_dtype(weight: Tensor, node: Node) -> Tensor:
    """The weight of a layer that stays float as the type that holds it rounds it, in float32; gradients pass
    as if it were not rounded."""
    rounded = weight.to(FLOAT_DTYPES[node.attrs["dtype"]]).float()
    return weight + (rounded - weight).detach()


def layer_codes(model: SimulatedModel, node: Node, weight: Tensor, least: Tensor | None = None) -> LayerCodes:
    """The codes of a folded weight, by its quantizer; with no smaller scales than `least`, [1] or [out]."""
    quantizer = model.weight_quantizer(node)
    scheme = quantizer.scheme
    if isinstance(quantizer, LevelQuantizer):
        own = quantizer.level_parameters["scale"].detach()
        return _listed_codes(quantizer, weight, _in_folded_units(model, node, own), least)
    scale = _in_folded_units(model, node, quantizer.scale.detach())
    zero_point = quantizer.zero_point.float()
    midrise = quantizer.midrise
    if midrise is not None:
        # Without a level at 0, weights that are nearly nothing beside the bias would grow with the scale.
        fits = scale / 2 >= (MIN_SCALE if least is None else least.clamp(min=MIN_SCALE))
        midrise = midrise * (fits.all(1) if fits.dim() > 1 else fits)
    if least is not None:
        scale = torch.maximum(scale, next_power_of_two(least) if scheme.levels == "fixed" else least)
    values = quantizer.rounded(weight - level_offset(scale, midrise, weight, scheme), scale, zero_point)
    shift = 0 if scheme.signed else 2 ** (scheme.bits - 1)  # codes are stored signed
    shifted = None if scheme.symmetric else zero_point - shift
    codes = LayerCodes(values - shift, scale, shifted, scheme.bits, scheme.group_size)
    return codes if midrise is None else _with_midrise(codes, midrise)


def _with_midrise(codes: LayerCodes, midrise: Tensor) -> LayerCodes:
    """Whole numbers again: real = scale * (q + 1/2) = scale / 2 * (2 * q + 1), the halving exact."""
    if not torch.compiler.is_compiling() and not bool(midrise.any()):
        return codes
    levels = torch.tensor([[-2.0, -1.0, 0.0, 1.0], [-3.0, -1.0, 1.0, 3.0]], device=midrise.device)
    levels = levels[midrise.long()]
    values = codes.values + _column(midrise, codes.values) * (codes.values + 1)
    scale = codes.scale / (1 + _column(midrise, codes.scale))
    return codes._replace(values=values, scale=scale, codes=codes.values, levels=levels)


def _listed_codes(
    quantizer: LevelQuantizer, weight: Tensor, scale: Tensor, least: Tensor | None
) -> LayerCodes:
    """Codes of levels that are a list, or of shift-and-scale, whose zero point is a fraction."""
    scheme = quantizer.scheme
    if least is not None:
        scale = torch.maximum(scale, least)
    parameters = {**quantizer.level_parameters, "scale": scale}
    codes = quantizer.level_set.codes(weight, parameters, scheme)
    if "offset" in parameters:
        shift = 2 ** (scheme.bits - 1)
        zero_point = -parameters["offset"] / scale - shift
        return LayerCodes(codes - shift, scale, zero_point, scheme.bits, 0, on_grid=False)
    levels = parameters["levels"]
    values = level_of(codes, levels)
    return LayerCodes(values, scale, None, scheme.bits, scheme.group_size, codes, levels, scheme.on_grid)


class IntegerLayer(NamedTuple):
    """A static layer: codes, and the bias in units of the accumulator (whole numbers in float64) or as it
    is."""

    codes: LayerCodes
    bias: Tensor | None
    bias_is_integer: bool


def integer_layer(model: SimulatedModel, node: Node, x: QParams) -> IntegerLayer:
    """Codes and bias of a static layer whose accumulators provably stay below 2**31.

    q_b = round(bias / (s_x * s_w)) in float64. Where 255 * sum |q_w| + |q_b| would not fit, s_w becomes the
    smallest scale that does (a channel whose weights are nearly 0 beside its bias).
    """
    weight, bias = folded(model, node)
    weight = weight.detach()
    codes = layer_codes(model, node, weight)
    if bias is None or codes.group_size or model.recipe.bias == "float32":
        return IntegerLayer(codes, None if bias is None else bias.detach(), False)
    bias = bias.detach().double()
    needed = smallest_scale(bias, x, codes)
    if torch.compiler.is_compiling() or bool((needed > codes.scale).any()):
        codes = layer_codes(model, node, weight, needed)
    limit = float(_sum_limit(x))
    bias = torch.round(bias / (x.scale.double() * codes.scale.double())).clamp(-limit, limit)
    return IntegerLayer(codes, bias, True)


def smallest_scale(bias: Tensor, x: QParams, codes: LayerCodes) -> Tensor:
    """The least s_w, shaped like codes.scale, for which 255 * sum |q_w| + |q_b| < 2**31."""
    sums = _largest_input(x) * codes.centered().abs().flatten(1).sum(1, dtype=torch.float64)
    room = (_sum_limit(x) - 1 - sums).clamp(min=1.0)
    needed = bias.abs() / (x.scale.double() * room)
    if codes.scale.numel() == 1:
        needed = needed.amax(dim=0, keepdim=True)
    # Towards the larger float32, so that the quotient stays within the room.
    return torch.nextafter(needed.float(), torch.full_like(codes.scale, torch.inf)) * (needed > 0)


def _sum_limit(x: QParams) -> int:
    return MAX_ACCUMULATOR if x.steps <= MAX_INPUT else EXACT_IN_FLOAT64


def _largest_input(x: QParams) -> int:
    return MAX_INPUT if x.steps <= MAX_INPUT else x.steps


def check_accumulators(node: Node, layer: IntegerLayer) -> None:
    """Raise unless every accumulator of the layer fits in int32."""
    sums = MAX_INPUT * layer.codes.centered().abs().flatten(1).sum(1, dtype=torch.float64)
    if layer.bias is not None and layer.bias_is_integer:
        sums = sums + layer.bias.abs()
    if bool((sums > MAX_ACCUMULATOR).any()):
        channel = int(sums.argmax())
        raise PtqxError(f"{node.name}: the accumulator of output channel {channel} may overflow int32")
