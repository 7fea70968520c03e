"""What a study is: model, data, rows and parts, as a value that a YAML file holds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ...errors import PtqxError, unknown_name
from ...qat import QATConfig
from ...quant import Recipe
from ...quant import recipe as find_recipe
from ...train import TrainConfig
from .reader import build, read_yaml

TIERS = ("cpu", "reference")
FLOAT_FORMATS = ("fp32", "fp16", "bf16", "torchao-int4-weight-only")


@dataclass(frozen=True)
class PostTraining:
    """A row that is quantized after training.

    Attributes:
        recipe: a preset's name, such as "int8" or "w4a4".
        name: of the row; by default the recipe's, with its methods: "w4a4+adaround".
        changes: Recipe fields to change; a mapping for `weights` or `activations` changes those fields of
            the preset's scheme.
        methods: names of post-training methods, or {name: {option: value}}.
        images, sets: of calibration, if others than the study's.
    """

    recipe: str
    name: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)
    methods: tuple[Any, ...] = ()
    images: int | None = None
    sets: int | None = None

    @property
    def title(self) -> str:
        return self.name or "+".join([self.recipe, *(_method_name(method) for method in self.methods)])

    def to_recipe(self) -> Recipe:
        """The recipe that the row runs."""
        return changed(find_recipe(self.recipe), {**self.changes, **self._methods()})

    def _methods(self) -> dict[str, Any]:
        methods = [next(iter(m.items())) if isinstance(m, Mapping) else m for m in self.methods]
        return {"methods": tuple(methods)} if methods else {}


@dataclass(frozen=True)
class QuantizationAware:
    """A row that is trained on as its integer self.

    Attributes:
        recipe, name, changes: as of `PostTraining`; the name ends in "-qat" by default.
        epochs: of training on, from the float checkpoint.
        seeds: one run for each.
        train: further QATConfig fields, such as lr and distillation.
        control: also train the float model on, with the same epochs, order, augmentation and seeds.
    """

    recipe: str
    epochs: int = 5
    name: str = ""
    seeds: tuple[int, ...] = (0,)
    changes: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    control: bool = True

    @property
    def title(self) -> str:
        return self.name or f"{self.recipe}-qat"

    def to_recipe(self) -> Recipe:
        return changed(find_recipe(self.recipe), self.changes)

    def qat_config(self, seed: int) -> QATConfig:
        """What the row trains with; what is open is chosen for its recipe."""
        values = {**self.train, "epochs": self.epochs, "seed": seed}
        return build(QATConfig, values, f"{self.title}: train").resolved(self.to_recipe())

    def control_config(self, seed: int) -> QATConfig:
        """The part of it that training in float shares."""
        return replace(self.qat_config(seed), progressive=(), freeze_oscillating=0.0)

    def control_title(self) -> str:
        return f"control of {self.title}"


@dataclass(frozen=True)
class Calibration:
    """images: of the training set, for every calibration. sets: how many times, each with other images."""

    images: int = 1024
    sets: int = 1


@dataclass(frozen=True)
class Study:
    """A whole study.

    Attributes:
        name: of the results' folder and the report.
        model, model_options, dataset: as the command line's.
        weights: of the float model: a checkpoint, relative to the YAML file, or the name of a data set for
            which trained weights come with ptqx; or
        train: TrainConfig fields, to train it.
        tier: "cpu" (a few hours on two cores) or "reference".
        threads: of torch and the engine; None leaves torch's number.
        batch_size: images per batch when timing. seconds: time for the latency of one format.
        calibration: of the post-training rows.
        formats: float rows. ptq, qat: quantized rows.
        parts: name of a part to its options; null for its defaults.
    """

    name: str
    model: str
    dataset: str
    weights: str | None = None
    train: Mapping[str, Any] | None = None
    model_options: Mapping[str, Any] = field(default_factory=dict)
    tier: str = "cpu"
    seed: int = 0
    threads: int | None = None
    batch_size: int = 64
    seconds: float = 3.0
    calibration: Calibration = Calibration()
    formats: tuple[str, ...] = ("fp32", "fp16", "bf16")
    ptq: tuple[PostTraining, ...] = ()
    qat: tuple[QuantizationAware, ...] = ()
    parts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.tier not in TIERS:
            raise unknown_name("tier", self.tier, TIERS)
        for name in self.formats:
            if name not in FLOAT_FORMATS:
                raise unknown_name("float format", name, FLOAT_FORMATS)
        if "fp32" not in self.formats:
            object.__setattr__(self, "formats", ("fp32", *self.formats))
        if (self.weights is None) == (self.train is None):
            raise PtqxError("config: give either weights, a checkpoint, or train, how to make one")
        for where, value in (
            ("batch_size", self.batch_size),
            ("calibration.images", self.calibration.images),
            ("calibration.sets", self.calibration.sets),
        ):
            if value < 1:
                raise PtqxError(f"config.{where} must be at least 1, got {value}")
        titles = self.titles
        for title in titles:
            if not title or "/" in title:
                raise PtqxError(
                    f"config: {title!r} can't be the name of a row, because its files are called so"
                )
        if twice := next((title for i, title in enumerate(titles) if title in titles[:i]), None):
            raise PtqxError(f"config: two rows are called {twice!r}; give one of them a name")

    @property
    def titles(self) -> list[str]:
        """Names of all rows but the controls of QAT."""
        return [*self.formats, *(row.title for row in self.ptq), *(row.title for row in self.qat)]

    @property
    def recipes(self) -> dict[str, Recipe]:
        """Of all quantized rows, by title."""
        rows: list[PostTraining | QuantizationAware] = [*self.ptq, *self.qat]
        return {row.title: row.to_recipe() for row in rows}

    @property
    def train_config(self) -> TrainConfig | None:
        if self.train is None:
            return None
        return build(TrainConfig, {"seed": self.seed, **self.train}, "config.train")


def read_study(path: str | os.PathLike[str], weights: str | os.PathLike[str] | None = None) -> Study:
    """The study that a YAML file describes, with all its names checked.

    Args:
        weights: a checkpoint that takes the place of the file's `weights` and `train`.

    Raises:
        PtqxError: unknown keys or values, with the nearest that exist.
    """
    values = read_yaml(path)
    if weights is not None:
        values = {**values, "weights": str(weights), "train": None}
    elif isinstance(values.get("weights"), str) and Path(values["weights"]).suffix:
        values["weights"] = str(Path(path).parent / values["weights"])
    if values.get("parts") is None:
        values.pop("parts", None)
    for key in ("ptq", "qat"):
        if isinstance(values.get(key), list):
            values[key] = [{"recipe": row} if isinstance(row, str) else row for row in values[key]]
    study = build(Study, values)
    check(study)
    return study


def check(study: Study) -> None:
    """Make everything that the study names, so that a mistake shows before hours of work.

    Raises:
        PtqxError: an unknown recipe, method, training option, part or part's option.
    """
    from .part import part_options

    for row in study.ptq:
        row.to_recipe()
    for qat in study.qat:
        qat.to_recipe()
        for seed in qat.seeds:
            qat.qat_config(seed)
    _ = study.train_config
    for name, options in study.parts.items():
        part_options(name, options)


def changed(base: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with fields changed, those of its schemes one by one.

    >>> changed(find_recipe("int8"), {"weights": {"granularity": "tensor"}}).weights.granularity
    'tensor'
    """
    known = [f.name for f in fields(Recipe)]
    values: dict[str, Any] = {}
    for key, value in changes.items():
        if key not in known:
            raise unknown_name("Recipe field", key, known)
        scheme = getattr(base, key)
        if key in ("weights", "activations") and scheme is not None and isinstance(value, Mapping):
            value = {**scheme.to_dict(), **value}
        values[key] = tuple(value) if isinstance(value, list) else value
    return replace(base, **values)


def _method_name(method: Any) -> str:
    return str(next(iter(method))) if isinstance(method, Mapping) and method else str(method)
