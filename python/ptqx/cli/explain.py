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
    json_file: Json = None,
) -> None:
    """List what runs for every layer on this CPU: kernel, tile, multiplications, bytes, and why."""
    from .. import graph
    from ..files import write_text

    explanation = graph.explain(graph.load(source))
    typer.echo(str(explanation))
    if json_file is not None:
        write_text(json_file, json.dumps(explanation.to_dicts(), indent=2) + "\n")
