"""PyTorch programs of integer models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app, guarded


@app.command()
@guarded
def export(
    source: Annotated[Path, typer.Argument(help="A .ptqx file that quantize or qat wrote.")],
    out: Annotated[Path, typer.Option(help="The file to write, .pt2.")],
    to: Annotated[
        str, typer.Option(help="aot-inductor (machine code, also for C++) or torch-export (a graph).")
    ] = "aot-inductor",
    layers: Annotated[
        bool, typer.Option("--layers/--engine", help="One operator a layer, or one for the whole network.")
    ] = False,
) -> None:
    """Make a PyTorch program of a .ptqx file, for any batch size."""
    import torch

    from .. import graph

    integer = graph.load(source)
    example = torch.zeros(2, *integer.graph.input_shape)
    graph.export(integer if layers else graph.compile(integer, example), out, example, to)
    typer.echo(f"{out}: {out.stat().st_size:,} bytes")
