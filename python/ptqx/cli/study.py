"""A whole study from a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app, guarded, say_error
from .options import DataRoot, Download, Json


@app.command()
@guarded
def study(
    config: Annotated[Path, typer.Option(help="What to do: a YAML file, such as studies/digits.yaml.")],
    out: Annotated[Path | None, typer.Option(help="Folder of results (default: runs/study_NAME).")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="The float model's checkpoint, instead of the file's.")
    ] = None,
    data_root: DataRoot = Path("data"),
    download: Download = True,
    resume: Annotated[bool, typer.Option(help="Continue what --out holds.")] = True,
    json_file: Json = None,
) -> None:
    """Run a study: every format and method of its file, tested claims, figures, one HTML report.

    Stopped anywhere, it goes on from there with the same command. Under torchrun the processes share the
    batches of all training, and the first does the rest.
    """
    from ..files import write_text
    from ..study.experiment import read_study, run_study
    from ..train import Interrupted, distributed

    wanted = read_study(config, weights)
    folder = out or Path("runs") / f"study_{wanted.name}"
    try:
        results = run_study(wanted, folder, root=data_root, download=download, resume=resume)
    except Interrupted as interruption:
        say_error(str(interruption))
        raise typer.Exit(128 + interruption.signal_number) from None
    if distributed.launched_rank() != 0:
        return
    typer.echo(results.to_markdown())
    typer.echo(
        f"{folder / 'report.html'} is the report to open; {folder / 'results.json'} holds its numbers."
    )
    if json_file is not None:
        write_text(json_file, results.to_json())
