"""The page of a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app, guarded


@app.command()
@guarded
def report(
    results: Annotated[Path, typer.Argument(help="JSON that compare or demo wrote.")],
    html: Annotated[Path, typer.Option("--html", help="The page.")] = Path("report.html"),
) -> None:
    """Make the HTML report again from a comparison's JSON."""
    from ..study import read_report

    read_report(results).to_html(html)
    typer.echo(f"{html} is the report to open.")
