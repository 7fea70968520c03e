"""A trained model and the data it was trained for, by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from .. import data, models
from ..data import ImageDataset


@dataclass(frozen=True, eq=False)
class Workload:
    """A model, in eval() mode, and both splits of its data set."""

    model: nn.Module
    train: ImageDataset
    test: ImageDataset


def load_workload(
    model: str,
    dataset: str,
    weights: str | os.PathLike[str] | None,
    *,
    root: str | os.PathLike[str] = "data",
    download: bool = True,
    options: Mapping[str, Any] | None = None,
) -> Workload:
    """Load the data set, build the model for its images and classes, and load its checkpoint.

    Args:
        weights: a checkpoint; None leaves random weights.
        options: further arguments of the model's builder, such as `shortcut`.

    >>> work = load_workload("cnn", "digits", None)
    >>> work.model.classifier.out_features, len(work.test)
    (10, 360)
    """
    train_set = data.load(dataset, root, "train", download)
    test_set = data.load(dataset, root, "test", download)
    arguments = models.image_options(model, train_set.image_shape) | dict(options or {})
    network = models.build(model, train_set.num_classes, weights=weights, **arguments)
    return Workload(network.eval(), train_set, test_set)
