"""Layers by what they lose alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..errors import PtqxError, unknown_name
from .app import app, guarded
from .options import (
    Calibration,
    DataRoot,
    Dataset,
    Download,
    Json,
    Model,
    ModelOption,
    Seed,
    Threads,
    Weights,
    use_threads,
    workload,
)


@app.command()
@guarded
def sensitivity(
    weights: Weights,
    model: Model,
    dataset: Dataset,
    bits: Annotated[int, typer.Option(min=2, max=8, help="Of the layer's weights and of its input.")] = 4,
    by: Annotated[
        str, typer.Option(help="Order: loss, top1, sqnr (of the logits), hessian, size or time.")
    ] = "loss",
    images: Annotated[int | None, typer.Option(min=1, help="Test images to look at (default: all).")] = None,
    hessian_images: Annotated[
        int, typer.Option(min=0, help="Test images for the Hessian's trace; 0 leaves it out.")
    ] = 256,
    data_root: DataRoot = Path("data"),
    download: Download = True,
    model_option: ModelOption = None,
    calibration: Calibration = 1024,
    threads: Threads = None,
    seed: Seed = 0,
    json_file: Json = None,
) -> None:
    """Quantize each layer alone and rank them by what it costs, with the likely cause."""
    from ..files import write_text
    from ..study.report import plain_values
    from ..study.sensitivity import ORDERS
    from ..study.sensitivity import sensitivity as run_sensitivity

    if by not in ORDERS:
        raise unknown_name("order", by, ORDERS)
    if by == "hessian" and hessian_images == 0:
        raise PtqxError("--by hessian needs --hessian-images of 1 or more")
    work = workload(model, dataset, weights, data_root, download, model_option)
    use_threads(threads)
    test = work.test.subset(slice(0, images))
    result = run_sensitivity(
        work.model,
        work.train,
        test,
        bits=bits,
        images=calibration,
        hessian_images=hessian_images,
        seed=seed,
        progress=True,
    )
    typer.echo(result.to_markdown(by))
    if json_file is not None:
        ranked = [vars(row) for row in result.ranked(by)]
        write_text(json_file, json.dumps(plain_values(ranked), indent=2) + "\n")
