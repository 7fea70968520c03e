"""What runs for every layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .app import app, guarded
from .options import Json


@app.command()
@guarded
def explain(
    source: Annotated[Path, typer.Argument(help="A .ptqx file that quantize or qat wrote.")],
    measure: Annotated[
        bool, typer.Option("--measure", help="Time each layer beside PyTorch's float layer of its shape.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch when measuring.")] = 1,
    json_file: Json = None,
) -> None:
    """List what runs for every layer on this CPU: kernel, tile, multiplications, bytes, and why.

    With --measure, also how long each layer takes in integers and in float, on one thread, and for which
    layers float is faster.
    """
    from .. import graph
    from ..files import write_text

    model = graph.load(source)
    explanation = graph.explain(model)
    typer.echo(str(explanation))
    rows = explanation.to_dicts()
    if measure:
        from ..study.layer_speed import layer_speeds

        speeds = layer_speeds(model, batch_size)
        typer.echo(f"\n{speeds}")
        measured = speeds.to_dicts()
        rows = [{**row, "measured": measured.get(row["name"])} for row in rows]
    if json_file is not None:
        write_text(json_file, json.dumps(rows, indent=2) + "\n")
