"""Which targets can express a recipe."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from .app import app, guarded
from .options import Json, check_is_recipe


@app.command()
@guarded
def targets(
    recipe: Annotated[str, typer.Argument(help="int8, int4, w4a4, ...; any wNaM of 2 to 8 bits.")] = "int8",
    json_file: Json = None,
) -> None:
    """List for every target whether it can express a recipe, and what to change where it can't.

    Targets: cpu (ptqx's engine at its fastest), onnxruntime, openvino, pow2-device (one scale a tensor, all
    powers of two, no floats), general (what every runtime of 8-bit integers takes).
    """
    from dataclasses import asdict

    from ..files import write_text
    from ..quant import TARGETS, unmet
    from ..quant import recipe as find_recipe

    check_is_recipe(recipe)
    chosen = find_recipe(recipe)
    findings = {target: unmet(chosen, target) for target in TARGETS}
    for target, changes in findings.items():
        typer.echo(f"{target}: " + (f"change {len(changes)}" if changes else f"can express {recipe}"))
        for change in changes:
            typer.echo(f"  {change}")
    if json_file is not None:
        result = {target: [asdict(change) for change in changes] for target, changes in findings.items()}
        write_text(json_file, json.dumps(result, indent=2) + "\n")
