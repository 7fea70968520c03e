"""Memory of gradients that are summed up over micro-batches."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from .app import app, guarded
from .options import Json


@app.command()
@guarded
def gradient_memory(
    model: Annotated[
        str, typer.Option(help="One of ptqx's models, torchvision's, or timm/NAME.")
    ] = "vgg11_bn",
    image_size: Annotated[int, typer.Option(min=1, help="Height and width.")] = 32,
    channels: Annotated[int, typer.Option(min=1, help="Of the images.")] = 3,
    batch_size: Annotated[int, typer.Option(min=1, help="Images of a step.")] = 32,
    micro_batches: Annotated[int, typer.Option(help="Parts of a batch.")] = 4,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    json_file: Json = None,
) -> None:
    """Peak memory of training steps with gradients accumulated in float32 and in int8."""
    from ..files import write_text
    from ..study import gradient_memory as measure

    table = measure(
        model,
        (channels, image_size, image_size),
        batch_size=batch_size,
        micro_batches=micro_batches,
        threads=threads,
    )
    typer.echo(table.to_markdown())
    if json_file is not None:
        write_text(json_file, json.dumps(table.to_dicts(), indent=2) + "\n")
