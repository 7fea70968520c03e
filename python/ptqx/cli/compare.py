"""A checkpoint in several formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app, guarded
from .options import (
    Calibration,
    DataRoot,
    Dataset,
    Download,
    Html,
    Json,
    Model,
    ModelOption,
    Seed,
    Threads,
    Weights,
    command_line,
    split_names,
    workload,
)


@app.command()
@guarded
def compare(
    weights: Weights,
    model: Model,
    dataset: Dataset,
    formats: Annotated[
        str,
        typer.Option(
            help="Separated by commas: fp32, fp16, bf16, any recipe, any recipe-qat, mixed:bits=3; all."
        ),
    ] = "fp32,fp16,bf16,int8,int4",
    data_root: DataRoot = Path("data"),
    download: Download = True,
    model_option: ModelOption = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch when timing.")] = 64,
    calibration: Calibration = 1024,
    qat_epochs: Annotated[int, typer.Option(min=1, help="Training of -qat formats.")] = 5,
    threads: Threads = None,
    seed: Seed = 0,
    save_to: Annotated[
        Path | None, typer.Option(help="Keep the files of all formats in this folder.")
    ] = None,
    json_file: Json = None,
    html: Html = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw all formats in one figure: .png, .svg or .pdf.")
    ] = None,
) -> None:
    """Compare a trained CNN in several formats: accuracy, SQNR, size, latency, coverage.

    "--formats all" is every format that needs no training: the whole taxonomy.
    """
    from ..qat import QATConfig
    from ..study import compare as run_compare
    from ..study.formats import expanded, maker
    from ..study.plots import check_plot_name

    if plot is not None:
        check_plot_name(plot)
    names = split_names(formats)
    for name in expanded(names):
        maker(name)
    work = workload(model, dataset, weights, data_root, download, model_option)
    report = run_compare(
        work.model,
        work.train,
        work.test,
        names,
        batch_size=batch_size,
        threads=threads,
        calibration=calibration,
        seed=seed,
        qat=QATConfig(epochs=qat_epochs, seed=seed),
        save_to=save_to,
        info={"model": model, "dataset": dataset, "weights": str(weights), "command": command_line()},
    )
    typer.echo(report.to_markdown())
    if json_file is not None:
        report.to_json(json_file)
    if html is not None:
        report.to_html(html)
    if plot is not None:
        report.to_plot(plot)
