"""Options that several commands have, and what is made of their values."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import PtqxError

if TYPE_CHECKING:
    from torch import Tensor

    from ..graph import IntegerModel
    from ..quant import Recipe
    from ..study.workload import Workload

OF_OTHER_FILES = (".onnx", ".pt2", ".pt", ".pth", ".safetensors", ".json")


def integer_model_name(out: Path | None) -> Path | None:
    """The option's value, unless the name says another kind of file."""
    if out is not None and out.suffix in OF_OTHER_FILES:
        raise typer.BadParameter(f"{out}: a .ptqx file is written; ptqx export makes .pt2 and .onnx of it")
    return out


Model = Annotated[str, typer.Option(help="One of ptqx's models, torchvision's, or timm/NAME.")]
Dataset = Annotated[str, typer.Option(help="cifar10, cifar100, mnist, fashion_mnist or digits.")]
Weights = Annotated[
    Path,
    typer.Option(help="A checkpoint (.safetensors, .pt, .pth, .th), or a data set: ptqx's own weights."),
]
ModelOption = Annotated[
    list[str] | None, typer.Option(help="NAME=VALUE for the model's builder, such as shortcut=B.")
]
DataRoot = Annotated[Path, typer.Option(help="Folder of the data sets.")]
Download = Annotated[bool, typer.Option("--download/--no-download", help="Fetch what is missing.")]
Calibration = Annotated[int, typer.Option(min=1, help="Training images to calibrate with.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads (default: torch's choice).")]
Seed = Annotated[int, typer.Option(help="Of everything random.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the result here.")]
Html = Annotated[Path | None, typer.Option("--html", help="Write a report to read here.")]
Out = Annotated[
    Path | None,
    typer.Option(
        callback=integer_model_name,
        help="The integer model; .gz compresses it (default: MODEL_DATASET_RECIPE.ptqx).",
    ),
]
RecipeName = Annotated[
    str,
    typer.Option(
        help="int8, int8-dynamic, int8-weight-only, int4, pow2, apot, kmeans, ternary, binary, w1a1, "
        "fixed16, ...; any wNaM of 2 to 8 bits; methods after it: w4a4+gptq."
    ),
]
Target = Annotated[
    str | None,
    typer.Option(help="Refuse what it can't express: cpu, onnxruntime, openvino, pow2-device or general."),
]
Fit = Annotated[bool, typer.Option("--fit", help="Change the recipe to what --target can express.")]
Overrides = Annotated[
    str | None,
    typer.Option(
        help="Layers, by name or pattern, that differ from the recipe, as JSON: "
        """'{"*.downsample.0": {"bits": 8}, "layer3.*": {"weights": {"levels": "apot"}}}'."""
    ),
]
Methods = Annotated[
    str | None,
    typer.Option(
        help="Post-training methods in order, separated by commas, instead of the recipe's own: gptq, "
        "adaround:steps=500, ... or nearest."
    ),
]


def workload(
    model: str, dataset: str, weights: Path, data_root: Path, download: bool, model_option: list[str] | None
) -> Workload:
    from .. import models
    from ..study.workload import load_workload

    return load_workload(
        model,
        dataset,
        weights,
        root=data_root,
        download=download,
        options=models.parse_options(model_option or []),
    )


# Formats of `compare` that are more than a recipe, and what makes them.
OTHER_FORMATS = {
    "mixed": "ptqx mixed, which chooses a recipe",
    "pruned": "ptqx prune",
    "sparse": "ptqx prune --sparsity, or the method sparse after a recipe, such as int8+sparse:share=0.5",
    "fp": "ptqx compare",
    "bf": "ptqx compare",
}


def check_is_recipe(name: str) -> None:
    """
    Raises:
        PtqxError: the name of a format that is no recipe, with the command that makes it.
    """
    for kind, command in OTHER_FORMATS.items():
        if re.fullmatch(rf"{kind}(\d*|:.*)", name):
            raise PtqxError(f"{name!r} is a format of compare, not a recipe; it is made by {command}")


def recipe_for(
    name: str, target: str | None, fit: bool, overrides: str | None = None, quantizer: str | None = None
) -> tuple[str, Recipe]:
    """The recipe called `name` for a target, and what to call it: "int8-openvino" where `fit` changed it.

    Raises:
        PtqxError: no such recipe or target, or what the target can't express, with what to take instead.
    """
    from ..quant import fitted, recipe, unmet

    check_is_recipe(name)
    fields: dict[str, Any] = {"overrides": parsed_overrides(overrides), "quantizer": quantizer}
    chosen = recipe(name, **{key: value for key, value in fields.items() if value is not None})
    if target is None:
        if fit:
            raise PtqxError("--fit needs --target, what to fit the recipe to")
        return name, chosen
    findings = unmet(chosen, target)
    if not findings:
        return name, chosen
    if not fit:
        changes = "; ".join(map(str, findings))
        raise PtqxError(f"target {target!r} can't express {name}: {changes}; --fit makes these changes")
    for finding in findings:
        typer.echo(f"{target}: {finding}")
    return f"{name}-{target}", fitted(chosen, target)


def example_inputs(
    integer: IntegerModel, dataset: str | None, samples: int, data_root: Path, download: bool
) -> Tensor:
    """The first test images of a data set as inputs; without one, random inputs."""
    import torch

    from .. import data

    if dataset is None:
        return torch.randn(samples, *integer.graph.input_shape, generator=torch.Generator().manual_seed(0))
    test = data.load(dataset, data_root, "test", download)
    return test.normalize(test.images[:samples])


def split_names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def split_numbers(option: str, text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise PtqxError(f"{option} must be whole numbers separated by commas, got {text!r}") from None


def parsed_overrides(text: str | None) -> dict[str, Any] | None:
    """The JSON object of --overrides."""
    try:
        overrides = None if text is None else json.loads(text)
    except json.JSONDecodeError as error:
        raise PtqxError(f"--overrides can't be read as JSON: {error}, got {text!r}") from None
    if not isinstance(overrides, dict | None):
        raise PtqxError(f"--overrides must be a JSON object, got {text!r}")
    return overrides


def use_threads(threads: int | None) -> None:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


def command_line() -> str:
    return shlex.join(["ptqx", *sys.argv[1:]])
