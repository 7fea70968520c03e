"""The page of a comparison or a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app, guarded


@app.command()
@guarded
def report(
    results: Annotated[Path, typer.Argument(help="JSON that compare, demo or study wrote.")],
    html: Annotated[Path, typer.Option("--html", help="The page.")] = Path("report.html"),
) -> None:
    """Make the HTML report again from a comparison's or a study's JSON."""
    from .. import study

    study.page_of(results, html)
    typer.echo(f"{html} is the report to open.")
