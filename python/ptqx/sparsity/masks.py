"""Unstructured sparsity: which weights are held at zero, and how many there are."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PtqxError
from ..graph import IntegerModel, capture
from ..graph.operators.stored_weights import is_held_in_float, real_weight, stored_codes

LAYERS = ("conv2d", "linear")


@dataclass(frozen=True)
class Pattern:
    """Which weights stay, those of the largest magnitude: all but `share` of every layer's, or `keep` of `of`
    neighbours.

    Neighbours are consecutive input channels of one filter at one tap, as in the 2:4 pattern of Mishra et al.
    2021 (arXiv:2104.08378). Layers whose input channels are no multiple of `of`, depthwise ones among them,
    stay dense.

    >>> weight = torch.tensor([[4.0, 3.0, -2.0, 1.0]])
    >>> Pattern(share=0.25).mask(weight)
    tensor([[ True,  True,  True, False]])
    >>> Pattern(keep=2, of=4).mask(weight)
    tensor([[ True,  True, False, False]])
    """

    share: float = 0.0
    keep: int = 0
    of: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise PtqxError(f"share must be in [0, 1), got {self.share}")
        if (self.keep or self.of) and not 0 < self.keep < self.of:
            raise PtqxError(f"keep must be at least 1 and less than of, got keep={self.keep}, of={self.of}")
        if bool(self.share) == bool(self.of):
            raise PtqxError("give a share of the weights, or keep and of: one of the two")

    def __str__(self) -> str:
        return f"{self.keep}:{self.of}" if self.of else f"{100 * self.share:.3g} %"

    def mask(self, weight: Tensor) -> Tensor:
        """bool of the weight's shape, True where it stays. Of equal ones the first stay."""
        if self.of:
            return self._of_neighbours(weight)
        order = weight.detach().abs().flatten().argsort(descending=True, stable=True)
        mask = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
        mask[order[: weight.numel() - math.floor(self.share * weight.numel())]] = True
        return mask.reshape(weight.shape)

    def check(self, weights: Iterable[Tensor]) -> None:
        """
        Raises:
            PtqxError: it would leave all of these weights dense.
        """
        widths = [weight.shape[1] for weight in weights]
        if self.of and all(width % self.of for width in widths):
            found = ", ".join(map(str, widths[:4])) + (", ..." if len(widths) > 4 else "")
            raise PtqxError(
                f"sparsity: {self} needs layers whose input channels are a multiple of {self.of}; here they "
                f"are {found or 'none'}"
            )

    def _of_neighbours(self, weight: Tensor) -> Tensor:
        if weight.shape[1] % self.of:
            return torch.ones_like(weight, dtype=torch.bool)
        groups = weight.detach().abs().movedim(1, -1)  # [out, h, w, in]
        shape = groups.shape
        groups = groups.reshape(-1, self.of)
        order = groups.argsort(dim=1, descending=True, stable=True)
        mask = torch.zeros_like(groups, dtype=torch.bool).scatter_(1, order[:, : self.keep], True)
        return mask.reshape(shape).movedim(-1, 1).contiguous()


def parse_pattern(text: str) -> Pattern:
    """ "2:4", or a share such as "0.5".

    >>> parse_pattern("2:4"), parse_pattern("0.5")
    (Pattern(share=0.0, keep=2, of=4), Pattern(share=0.5, keep=0, of=0))
    """
    keep, colon, of = text.partition(":")
    try:
        numbers = (int(keep), int(of)) if colon else float(text)
    except ValueError:
        raise PtqxError(
            f"sparsity: expected a share such as 0.5, or a pattern such as 2:4, got {text!r}"
        ) from None
    return Pattern(share=numbers) if isinstance(numbers, float) else Pattern(0.0, *numbers)


def layer_weights(model: nn.Module, example_inputs: Any) -> list[str]:
    """The parameters that are weights of convolutions and linear layers, by their paths; not of transposed
    convolutions, whose input channels are no row."""
    layers = [node for node in capture(model, example_inputs) if node.op in LAYERS]
    paths = [node.params["weight"] for node in layers if not node.attrs.get("transposed")]
    return list(dict.fromkeys(paths))


def sparsify(model: nn.Module, example_inputs: Any, pattern: Pattern | str) -> nn.Module:
    """A copy of `model` in which the weights that the pattern leaves out are 0.

    The zeros are stored, and multiplied with, like all weights: neither file nor latency get smaller, only
    the compressed file does (`ptqx.save(model, "m.ptqx.gz")`). Train on with `ptqx.qat.KeepZeros`.

    Raises:
        PtqxError: no layer has input channels for the pattern.

    >>> sparse = sparsify(nn.Sequential(nn.Conv2d(4, 8, 3)), torch.zeros(1, 4, 8, 8), "2:4")
    >>> zero_share(sparse)
    0.5
    """
    chosen = parse_pattern(pattern) if isinstance(pattern, str) else pattern
    copied = copy.deepcopy(model)
    weights = [copied.get_parameter(path) for path in layer_weights(model, example_inputs)]
    chosen.check(weights)
    with torch.no_grad():
        for weight in weights:
            weight.mul_(chosen.mask(weight))
    return copied


def zero_masks(model: nn.Module) -> dict[str, Tensor]:
    """Parameter to bool, False at its zeros, for filters and matrices that have any."""
    masks = {name: p.detach() != 0 for name, p in model.named_parameters() if p.dim() >= 2}
    return {name: mask for name, mask in masks.items() if not bool(mask.all())}


@torch.no_grad()
def apply_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set the parameters to 0 where their mask is False."""
    for name, mask in masks.items():
        model.get_parameter(name).mul_(mask)


def zero_share(model: nn.Module) -> float:
    """The share of zeros among the filters and matrices of a float model, or among the weights of an integer
    one: those that stand for exactly 0, whatever their code."""
    weights = (
        _integer_weights(model)
        if isinstance(model, IntegerModel)
        else [p.detach() for p in model.parameters() if p.dim() >= 2]
    )
    zeros, total = sum(int((w == 0).sum()) for w in weights), sum(w.numel() for w in weights)
    return zeros / max(1, total)


def _integer_weights(model: IntegerModel) -> list[Tensor]:
    nodes = [node for node in model.graph if "weight" in node.tensors and "weight_bits" in node.attrs]
    return [
        real_weight(model, node) if is_held_in_float(model, node) else stored_codes(model, node).centered()
        for node in nodes
    ]
