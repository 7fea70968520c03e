"""A small CNN, trained and compared on embedded data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app, guarded


@app.command()
@guarded
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo"),
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    epochs: Annotated[int, typer.Option(min=1, help="Of training the float model.")] = 12,
) -> None:
    """Train a small CNN on embedded digits and compare it from fp32 down to 3 bits, in about a minute."""
    from ..study.demo import demo as run_demo

    report = run_demo(out, epochs=epochs, threads=threads)
    typer.echo(f"\n{report.to_markdown()}\n")
    typer.echo(f"{out / 'report.html'} is the report to open; {out / 'results.json'} holds its numbers.")
