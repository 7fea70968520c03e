"""How the loss bends along each layer's weights: traces of the Hessian, empirical Fisher information."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from ..data import ImageDataset, Loader, calibration_split
from ..errors import PtqxError
from ..graph import SimulatedModel, prepare
from ..graph.placement import layers
from ..graph.workbench import own_weights

Batches = Iterable[tuple[Tensor, Tensor]]
BATCH = 128


def float_network(model: nn.Module, example: Tensor) -> SimulatedModel:
    """The float network with batch norms folded: every layer's weight is what gets quantized."""
    prep = prepare(copy.deepcopy(model).eval(), "int8", example)
    own_weights(prep)
    return prep


def layer_weights(network: SimulatedModel) -> dict[str, Tensor]:
    """The folded weights of a `float_network` by layer, in order."""
    return {node.name: network.tensor(node.params["weight"]) for node in layers(network.graph)}


def hessian_traces(
    network: SimulatedModel, batches: Batches, probes: int = 8, seed: int = 0, progress: bool = False
) -> dict[str, float]:
    """Trace of the Hessian of the mean cross-entropy, of each layer's folded weights by themselves.

    Hutchinson's estimate, E[v^T H v] over vectors v of random signs, as HAWQ-V2 takes it (Dong et al.,
    "HAWQ-V2: Hessian Aware trace-Weighted Quantization of Neural Networks", NeurIPS 2020). One product with
    the Hessian serves all layers: the blocks between them add noise of mean zero.

    Args:
        network: of `float_network`.
        batches: (x, y) with labels, at least one; the more images, the nearer to the data's own loss.
        probes: random vectors for every batch.
    """
    weights = layer_weights(network)
    generator = torch.Generator().manual_seed(seed)
    totals, images = dict.fromkeys(weights, 0.0), 0
    for x, y in tqdm(_labelled(batches), "hessian", disable=not progress, leave=False):
        loss = F.cross_entropy(network.float_output(x), y)
        gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        for _ in range(probes):
            signs = [torch.randint(0, 2, w.shape, generator=generator) * 2.0 - 1.0 for w in weights.values()]
            products = torch.autograd.grad(gradients, list(weights.values()), signs, retain_graph=True)
            for name, sign, product in zip(weights, signs, products, strict=True):
                totals[name] += len(x) / probes * float((sign * product).sum(dtype=torch.float64))
        images += len(x)
    return {name: total / images for name, total in totals.items()}


def empirical_fisher(network: SimulatedModel, batches: Batches, progress: bool = False) -> dict[str, Tensor]:
    """Mean over images of the squared gradient of each one's cross-entropy, float32, of each layer's shape.

    The diagonal of the empirical Fisher information (labels as they are in the data), which stands for that
    of the Hessian; how well: Kunstner et al., "Limitations of the empirical Fisher approximation", NeurIPS
    2019.
    """
    weights = layer_weights(network)
    totals, images = {name: torch.zeros_like(w) for name, w in weights.items()}, 0
    for x, y in tqdm(_labelled(batches), "fisher", disable=not progress, leave=False):
        for image, label in zip(x.split(1), y.split(1), strict=True):
            loss = F.cross_entropy(network.float_output(image), label)
            for total, gradient in zip(
                totals.values(), torch.autograd.grad(loss, list(weights.values())), strict=True
            ):
                total += gradient.square()
        images += len(x)
    return {name: total / images for name, total in totals.items()}


def labelled_batches(
    train: ImageDataset | Iterable[Any], images: int, calibration: int, seed: int
) -> list[tuple[Tensor, Tensor]]:
    """At most `images` images with labels; of a data set, those that follow the `calibration` images drawn by
    `seed`, or the last of that order where it is too short."""
    if isinstance(train, ImageDataset):
        order = calibration_split(train, len(train), seed)
        start = min(calibration, max(0, len(order) - images))
        return list(Loader(order.subset(slice(start, start + images)), BATCH))
    batches, room = [], images
    for batch in _labelled(train):
        if room > 0:
            batches.append((batch[0][:room], batch[1][:room]))
            room -= len(batch[0])
    return batches


def _labelled(batches: Iterable[Any]) -> list[tuple[Tensor, Tensor]]:
    labelled = list(batches)
    if not labelled or not all(isinstance(b, (tuple, list)) and len(b) == 2 for b in labelled):
        raise PtqxError("the loss needs labels: give a data set, or batches (x, y), at least one")
    return labelled
