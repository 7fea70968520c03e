"""What of a network becomes integer."""

from __future__ import annotations

from typing import Annotated

import typer

from .app import app, guarded
from .options import Json, check_is_recipe, split_names


@app.command()
@guarded
def coverage(
    models: Annotated[
        str, typer.Option(help="Separated by commas: ptqx's models, torchvision's, or timm/NAME.")
    ] = "vgg11_bn",
    recipe: Annotated[str, typer.Option(help="int8, int4, w4a4, ...")] = "int8",
    steps: Annotated[
        bool, typer.Option("--steps", help="Also list every step, and why it is float.")
    ] = False,
    json_file: Json = None,
) -> None:
    """Convert networks, with random weights, and say how much becomes integer and what the engine runs."""
    from ..study.convertible import convertible

    check_is_recipe(recipe)
    report = convertible(split_names(models), recipe)
    for name, covered in report.coverages.items() if steps else ():
        typer.echo(f"{name}\n{covered}\n")
    typer.echo(report.to_markdown())
    if json_file is not None:
        report.to_json(json_file)
