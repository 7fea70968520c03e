"""Bit widths chosen layer by layer under budgets, and what the models then have."""

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
    Methods,
    Model,
    ModelOption,
    Seed,
    Threads,
    Weights,
    split_names,
    use_threads,
    workload,
)

HELD_OUT = 2000  # training images that accuracy is lost on where a budget is found by it


@app.command()
@guarded
def mixed(
    weights: Weights,
    model: Model,
    dataset: Dataset,
    bits: Annotated[str, typer.Option(help="Budgets: bits that a weight takes on average.")] = "",
    size: Annotated[str, typer.Option(help="Budgets: bytes of all layers in the file.")] = "",
    milliseconds: Annotated[
        str, typer.Option("--ms", help="Budgets: milliseconds of a batch in the engine, one thread.")
    ] = "",
    drop: Annotated[
        str,
        typer.Option(
            help=f"Percent points of top-1 that may be lost: the fewest bits that keep to it on {HELD_OUT:,} "
            "training images."
        ),
    ] = "",
    by: Annotated[str, typer.Option(help="What layers lose: loss (measured), hessian or fisher.")] = "loss",
    widths: Annotated[str, typer.Option(help="Of weights: 2 to 8 bits, bf16, fp16 or fp32.")] = "2,3,4,6,8",
    activations: Annotated[int, typer.Option(min=2, max=8, help="Bits of activations.")] = 8,
    methods: Methods = None,
    images: Annotated[int, typer.Option(min=1, help="Training images to find losses on.")] = 512,
    test_images: Annotated[int | None, typer.Option(min=1, help="Test images (default: all).")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch when timing.")] = 1,
    data_root: DataRoot = Path("data"),
    download: Download = True,
    model_option: ModelOption = None,
    calibration: Calibration = 1024,
    threads: Threads = None,
    seed: Seed = 0,
    save_to: Annotated[Path | None, typer.Option(help="Keep the .ptqx files in this folder.")] = None,
    json_file: Json = None,
) -> None:
    """Choose each layer's bits by an integer program, for one or several budgets, separated by commas.

    Prints what every layer loses and costs in every width, and for every budget what was foreseen (bytes,
    milliseconds) beside what the converted model has, with its accuracy. Without a budget: 2.5, 3, 4 and 6
    bits. With --drop the budget is found: the test images do not take part, and have the last word.
    """
    from ..files import write_text
    from ..quant import parse_methods
    from ..study.compare import calibration_batches
    from ..study.curvature import labelled_batches
    from ..study.mixed_precision import Budget, fewest_bits, measure_layers, pareto
    from ..study.mixed_precision.losses import MEASURES
    from ..study.mixed_precision.widths import parsed_widths
    from ..study.report import plain_values

    budgets = [Budget(bits=value) for value in _numbers("--bits", bits)]
    budgets += [Budget(bytes=int(value)) for value in _numbers("--size", size)]
    budgets += [Budget(milliseconds=value) for value in _numbers("--ms", milliseconds)]
    drops = _numbers("--drop", drop)
    if by not in MEASURES:
        raise unknown_name("measure", by, MEASURES)
    parsed = parse_methods(split_names(methods or ""))
    chosen_widths = parsed_widths(widths)
    work = workload(model, dataset, weights, data_root, download, model_option)
    use_threads(threads)
    measured = measure_layers(
        work.model,
        work.train,
        by=by,
        widths=chosen_widths,
        activations=activations,
        methods=parsed,
        calibration=calibration,
        images=images,
        batch=batch_size,
        seed=seed,
        progress=True,
    )
    typer.echo(measured.to_markdown())
    batches = calibration_batches(work.train, calibration, seed)
    for points in drops:
        held_out = labelled_batches(work.train, HELD_OUT, calibration + images, seed)
        found = fewest_bits(work.model, batches, held_out, measured, points, progress=True)
        typer.echo(f"--drop {points:g}: {found.budget}, {found.drop:.2f} points lost on training images")
        budgets.append(found.budget)
    table = pareto(
        work.model,
        batches,
        work.test.subset(slice(0, test_images)),
        measured,
        budgets or [Budget(bits=value) for value in (2.5, 3, 4, 6)],
        save_to=save_to,
        seed=seed,
        progress=True,
    )
    typer.echo(f"\nfp32: top-1 {table.float_top1:.2f} %\n{table}")
    if json_file is not None:
        result = {"layers": measured.to_dicts(), "budgets": table.to_dicts()}
        write_text(json_file, json.dumps(plain_values(result), indent=2) + "\n")


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(number) for number in split_names(text)]
    except ValueError:
        raise PtqxError(f"{option} must be numbers separated by commas, got {text!r}") from None
