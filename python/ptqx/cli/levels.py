"""Pictures of the taxonomy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app, guarded


@app.command()
@guarded
def levels(
    out: Annotated[Path, typer.Option(help="Folder of the pictures.")] = Path("docs/taxonomy"),
) -> None:
    """Draw what every family of quantizers does to numbers: the pictures of docs/taxonomy.md."""
    from ..study import draw_pictures

    for path in draw_pictures(out):
        typer.echo(str(path))
