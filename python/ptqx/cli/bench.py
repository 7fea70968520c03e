"""Speed against other engines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app, guarded
from .options import Json, split_names, split_numbers


@app.command()
@guarded
def bench(
    models: Annotated[
        str,
        typer.Option(
            help="Separated by commas; ptqx's own see 32x32 images, torchvision's and most timm/NAME 224x224."
        ),
    ] = "vgg11_bn,resnet20",
    batch: Annotated[str, typer.Option(help="Images at a time, separated by commas.")] = "1,64",
    threads: Annotated[
        str | None, typer.Option(help="Separated by commas (default: 1 and torch's choice).")
    ] = None,
    engines: Annotated[
        str | None, typer.Option(help="Separated by commas: ptqx, openvino, torch-fp32, ... (default: all).")
    ] = None,
    rounds: Annotated[int, typer.Option(min=2, help="Times that every engine has its turn.")] = 7,
    layers: Annotated[
        bool, typer.Option("--layers", help="Also time each step of ptqx's engine, on one thread.")
    ] = False,
    json_file: Json = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the tables here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the speeds: .png, .svg or .pdf.")] = None,
) -> None:
    """Time CNNs against OpenVINO, ONNX Runtime and PyTorch in one process, and what the machine can do."""
    from ..files import write_text
    from ..study.bench import bench as run_bench
    from ..study.plots import check_plot_name

    if plot is not None:
        check_plot_name(plot)
    result = run_bench(
        split_names(models),
        split_numbers("--batch", batch),
        None if threads is None else split_numbers("--threads", threads),
        None if engines is None else split_names(engines),
        rounds=rounds,
        layers=layers,
    )
    text = result.to_markdown()
    typer.echo(text)
    if json_file is not None:
        result.to_json(json_file)
    if markdown is not None:
        write_text(markdown, text + "\n")
    if plot is not None:
        result.to_plot(plot)
