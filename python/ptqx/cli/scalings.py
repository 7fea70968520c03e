"""Ways to scale weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .app import app, guarded
from .options import (
    DataRoot,
    Dataset,
    Download,
    Json,
    Model,
    ModelOption,
    Seed,
    Weights,
    split_numbers,
    workload,
)


@app.command()
@guarded
def scalings(
    weights: Weights,
    model: Model,
    dataset: Dataset,
    bits: Annotated[str, typer.Option(help="Widths of the weights, separated by commas.")] = "8,4",
    data_root: DataRoot = Path("data"),
    download: Download = True,
    model_option: ModelOption = None,
    seed: Seed = 0,
    json_file: Json = None,
) -> None:
    """Scale weights by max-abs, 3 sigma and percentile, per tensor and per channel: SQNR and top-1."""
    from ..files import write_text
    from ..study import scalings as run_scalings

    widths = split_numbers("--bits", bits)
    work = workload(model, dataset, weights, data_root, download, model_option)
    table = run_scalings(work.model, work.test, bits=widths, seed=seed)
    typer.echo(table.to_markdown())
    if json_file is not None:
        write_text(json_file, json.dumps(table.to_dicts(), indent=2) + "\n")
