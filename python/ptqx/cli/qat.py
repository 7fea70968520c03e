"""Quantization-aware training from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app, guarded, say_error
from .finish import finish
from .options import (
    Calibration,
    DataRoot,
    Dataset,
    Download,
    Json,
    Model,
    ModelOption,
    Out,
    RecipeName,
    Seed,
    Threads,
    Weights,
    use_threads,
    workload,
)


@app.command()
@guarded
def qat(
    weights: Weights,
    model: Model,
    dataset: Dataset,
    recipe: RecipeName = "int4",
    out: Out = None,
    run_folder: Annotated[
        Path | None, typer.Option(help="Log and checkpoint [default: runs/MODEL_DATASET_RECIPE-qat].")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training set.")] = 5,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 0.01,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per step.")] = 128,
    resume: Annotated[bool, typer.Option(help="Continue the run that --run-folder holds.")] = True,
    data_root: DataRoot = Path("data"),
    download: Download = True,
    model_option: ModelOption = None,
    calibration: Calibration = 1024,
    threads: Threads = None,
    seed: Seed = 0,
    json_file: Json = None,
) -> None:
    """Quantization-aware training: calibrate, train on, convert; writes a .ptqx file and tests it."""
    from .. import graph
    from ..data import Loader, calibration_split
    from ..study.qat import train_quantized
    from ..train import Interrupted, TrainConfig

    work = workload(model, dataset, weights, data_root, download, model_option)
    use_threads(threads)
    try:
        prepared = train_quantized(
            work.model,
            recipe,
            work.train,
            work.test,
            TrainConfig(epochs=epochs, lr=lr, batch_size=batch_size, warmup_epochs=0.0, seed=seed),
            Loader(calibration_split(work.train, calibration, seed), 128),
            out=run_folder or Path("runs") / f"{model}_{dataset}_{recipe}-qat",
            resume=resume,
            identity={"model": model, "dataset": dataset, "recipe": recipe, "weights": str(weights)},
        )
    except Interrupted as interruption:
        say_error(str(interruption))
        raise typer.Exit(128 + interruption.signal_number) from None
    integer = graph.convert(prepared)
    finish(integer, work, recipe, "qat", out or Path(f"{model}_{dataset}_{recipe}-qat.ptqx"), json_file)
