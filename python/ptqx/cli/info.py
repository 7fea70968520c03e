"""What ptqx found on this machine."""

from __future__ import annotations

import json

import typer

from .app import app, guarded
from .options import Json


@app.command()
@guarded
def info(json_file: Json = None) -> None:
    """Versions, processor, kernels, threads, and what is missing."""
    from ..files import write_text
    from ..study import environment

    facts = environment.environment()
    typer.echo(environment.text(facts))
    if json_file is not None:
        write_text(json_file, json.dumps(facts, indent=2) + "\n")
