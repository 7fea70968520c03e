"""What the units of a study work on: the float model, its data, and the folder of results."""

from __future__ import annotations

import base64
import copy
import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data import ImageDataset
from ...files import read_tensors
from ...models import load_weights
from ...qat import QATConfig
from ...quant import Recipe
from ...train import Evaluation, distributed, evaluate, fit, save_model
from ...train.loop import CHECKPOINT
from ..compare import ANALYSIS_IMAGES, calibration_batches, first_images
from ..formats import Task
from ..statistics import sqnr_db
from ..workload import Workload, load_workload
from .config import Study
from .part import digest_of

MODELS, RUNS = "models", "runs"


@dataclass(eq=False)
class Subject:
    """The float model under study.

    Attributes:
        study: what is asked for.
        folder: of results; files of models are in `models`, training runs in `runs`.
        model: float, in eval() and channels_last; not to be changed.
        train, test: the data set's splits.
        progress: show bars.
    """

    study: Study
    folder: Path
    model: nn.Module
    train: ImageDataset
    test: ImageDataset
    progress: bool = True

    @cached_property
    def reference(self) -> Evaluation:
        """The float model on the test images."""
        return evaluate(self.model, self.test)

    @cached_property
    def example(self) -> Tensor:
        """The batch that is timed: the first test images."""
        batch = first_images(self.test, self.study.batch_size)
        return batch.contiguous(memory_format=torch.channels_last)

    @property
    def analysed(self) -> Tensor:
        """Test images for layer outputs and histograms."""
        return first_images(self.test, ANALYSIS_IMAGES)

    @property
    def models(self) -> Path:
        return self.folder / MODELS

    def run_folder(self, row: str, seed: int, depends: Any) -> Path:
        """Of a training run: another one if the model or anything in `depends` is another."""
        return self.folder / RUNS / f"{row}-{seed}-{digest_of([digest(self.model), depends])}"

    def calibration(self, seed: int, images: int | None = None) -> list[Tensor]:
        """Batches of training images, drawn by `seed`."""
        return calibration_batches(self.train, images or self.study.calibration.images, seed)

    def task(self, batches: list[Tensor] | None = None) -> Task:
        """For `study.formats`."""
        return Task(
            model=self.model,
            calibration=batches or [],
            example=self.example,
            folder=self.models,
            train=self.train,
            test=self.test,
            qat=QATConfig(),
        )

    def file(self, path: Path) -> str:
        """Relative to the folder, for units that leave files."""
        return str(path.relative_to(self.folder))

    def accuracy(self, evaluation: Evaluation) -> dict[str, Any]:
        """Of one model on the test images: everything that drops and their intervals are made from."""
        agree = evaluation.predictions == self.reference.predictions
        decibels = sqnr_db(self.reference.logits, evaluation.logits)
        return {
            "top1": evaluation.top1,
            "loss": evaluation.loss,
            "loss_error": _standard_error(evaluation),
            "agreement": 100.0 * agree.double().mean().item(),
            "logits_db": decibels if math.isfinite(decibels) else None,
            "correct": packed_bits(evaluation.predictions == evaluation.labels),
        }


def load_subject(study: Study, folder: Path, root: Path, download: bool, progress: bool) -> Subject:
    """Load the data and the float model; train it first where the study says so."""
    torch.manual_seed(study.seed)
    with distributed.first_rank_first():
        work = load_workload(
            study.model,
            study.dataset,
            study.weights,
            root=root,
            download=download,
            options=study.model_options,
        )
    if study.train_config is not None:
        train_float(study, folder, work, progress)
    channels_last: Any = {"memory_format": torch.channels_last}
    model = copy.deepcopy(work.model).cpu().eval().to(**channels_last)
    return Subject(study, folder, model, work.train, work.test, progress)


def train_float(study: Study, folder: Path, work: Workload, progress: bool) -> None:
    """Train the float model, or take the weights that an earlier run of the same study left."""
    config = study.train_config
    assert config is not None
    path = folder / MODELS / "float.safetensors"
    identity = {"model": study.model, "dataset": study.dataset, **config.identity()}
    metadata = {key: str(value) for key, value in identity.items()}
    if path.is_file() and read_tensors(path)[1] == metadata:
        load_weights(work.model, path)
        return
    run = folder / RUNS / f"float-{digest_of(metadata)}"
    names = {"model": study.model, "dataset": study.dataset}
    fit(work.model, work.train, work.test, config, out=run, identity=names, progress=progress)
    if distributed.rank() == 0:
        save_model(path, work.model, metadata)
        (run / CHECKPOINT).unlink(missing_ok=True)


def digest(model: nn.Module) -> str:
    """Of all parameters and buffers: two models with the same values have the same."""
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        total.update(name.encode())
        if not tensor.dim():
            total.update(str(tensor.item()).encode())
            continue
        # Flat, since the last stride of a kernel of one pixel may be any number.
        total.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:16]


def packed_bits(flags: Tensor) -> str:
    """Booleans as base64 text, eight to a byte.

    >>> bits(packed_bits(torch.tensor([True, False, True])), 3).tolist()
    [True, False, True]
    """
    return base64.b64encode(np.packbits(flags.cpu().numpy()).tobytes()).decode("ascii")


def bits(text: str, count: int) -> np.ndarray:
    """The `count` booleans that `packed_bits` wrote."""
    packed = np.frombuffer(base64.b64decode(text), dtype=np.uint8)
    return np.unpackbits(packed, count=count).astype(bool)


def plain_recipe(recipe: Recipe | None) -> dict[str, Any] | None:
    """For JSON."""
    return None if recipe is None else recipe.to_dict()


def _standard_error(evaluation: Evaluation) -> float:
    """Of the mean cross-entropy."""
    losses = F.cross_entropy(evaluation.logits, evaluation.labels, reduction="none")
    return float(losses.double().std()) / math.sqrt(len(losses))
