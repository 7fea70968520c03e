"""Gradients of few bits between processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .app import app, guarded
from .options import DataRoot, Dataset, Download, Json, split_names


@app.command()
@guarded
def gradients(
    model: Annotated[str, typer.Option(help="One of ptqx's models, torchvision's, or timm/NAME.")] = "cnn",
    dataset: Dataset = "digits",
    formats: Annotated[
        str, typer.Option(help="Bits of the gradients; 8 and 4 also as 8-stochastic, 4-stochastic.")
    ] = "32,8,8-stochastic,4,4-stochastic,1",
    processes: Annotated[int, typer.Option(help="That share every batch.")] = 2,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training set.")] = 16,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per step, over all processes.")] = 128,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 0.1,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of every format, seeds 0, 1, ...")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="The runs (default: runs/MODEL_DATASET-gradients).")
    ] = None,
    data_root: DataRoot = Path("data"),
    download: Download = True,
    json_file: Json = None,
) -> None:
    """Train with gradients of 32, 8, 4 and 1 bit between processes: accuracy and bytes sent.

    Runs that OUT holds are continued; finished ones are not trained again.
    """
    from ..files import write_text
    from ..study import compare_gradients

    table = compare_gradients(
        model,
        dataset,
        out or Path("runs") / f"{model}_{dataset}-gradients",
        formats=split_names(formats),
        processes=processes,
        seeds=range(seeds),
        options=[
            *("--epochs", str(epochs), "--batch-size", str(batch_size), "--lr", str(lr)),
            *("--data-root", str(data_root), "--download" if download else "--no-download"),
        ],
    )
    typer.echo(table.to_markdown())
    if json_file is not None:
        write_text(json_file, json.dumps(table.to_dicts(), indent=2) + "\n")
