"""Networks to be timed: the architecture counts, not what it has learnt."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ... import models
from ...torchvision_shim import import_torchvision
from .registry import Network

OWN_IMAGES = {"lenet5": (1, 28, 28), "cnn": (1, 8, 8)}
CIFAR_IMAGES, IMAGENET_IMAGES = (3, 32, 32), (3, 224, 224)
CLASSES = {"vgg": 100, "resnet": 10, "lenet5": 10, "cnn": 10}  # of ptqx's own, by the start of the name
IMAGENET_CLASSES = 1000
SEGMENTATION_CLASSES = 21  # of Pascal VOC
CALIBRATION_BATCHES, CALIBRATION_BATCH = 4, 2


def load_network(name: str, seed: int = 0) -> Network:
    """A model with random weights, and random images to calibrate it with.

    ptqx's own models take images of 32x32 (lenet5 28x28, cnn 8x8), torchvision's of 224x224, timm's of the
    size that they were made for; those for segmentation give logits of every pixel. The statistics of batch
    normalization are those of the random images, so that activations have the usual range.

    >>> load_network("resnet20").image_shape, load_network("cnn").image_shape
    ((3, 32, 32), (1, 8, 8))
    """
    own = name in models.names()
    shape = OWN_IMAGES.get(name, CIFAR_IMAGES) if own else IMAGENET_IMAGES
    classes = next((n for start, n in CLASSES.items() if own and name.startswith(start)), IMAGENET_CLASSES)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        arguments = models.image_options(name, shape)
        model = None if own else _segmentation(name)
        if model is None:
            model = models.build(name, classes, **arguments)
        if name.startswith(models.TIMM):
            shape = tuple(model.default_cfg["input_size"])  # type: ignore[index]
        images = [torch.randn(CALIBRATION_BATCH, *shape) for _ in range(CALIBRATION_BATCHES)]
        return Network(name, with_batch_statistics(model, torch.cat(images)), images)


class _Logits(nn.Module):
    """A segmentation network of torchvision without the dict that it returns."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)["out"]
        return logits


def _segmentation(name: str) -> nn.Module | None:
    if name.startswith(models.TIMM):
        return None
    torchvision = import_torchvision(f"model {name!r}")
    if name not in torchvision.models.list_models(module=torchvision.models.segmentation):
        return None
    options = {"weights": None, "weights_backbone": None, "num_classes": SEGMENTATION_CLASSES}
    return _Logits(torchvision.models.get_model(name, **options))


@torch.no_grad()
def with_batch_statistics(model: nn.Module, images: Tensor) -> nn.Module:
    """A copy in eval() mode whose batch normalizations have the mean and variance of the images."""
    model = copy.deepcopy(model).train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None  # the average of all batches
    model(images)
    return model.eval()
