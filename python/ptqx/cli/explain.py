"""What runs for every layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..errors import PtqxError
from .app import app, guarded
from .options import DataRoot, Download, Json, example_inputs


@app.command()
@guarded
def explain(
    source: Annotated[Path, typer.Argument(help="A .ptqx file that quantize or qat wrote.")],
    measure: Annotated[
        bool, typer.Option("--measure", help="Time each layer beside PyTorch's float layer of its shape.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch when measuring.")] = 1,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Also, on test images of this data set: accumulators' bits, clipped and unused codes."
        ),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="So many.")] = 64,
    value: Annotated[
        str | None,
        typer.Option(
            help="Instead, follow one output from float input to code: LAYER:CHANNEL:Y:X, or LAYER:CHANNEL."
        ),
    ] = None,
    sample: Annotated[
        int,
        typer.Option(min=0, help="For --value: which test image of --dataset; without it, random inputs."),
    ] = 0,
    data_root: DataRoot = Path("data"),
    download: Download = True,
    json_file: Json = None,
) -> None:
    """List what runs for every layer on this CPU: kernel, tile, multiplications, bytes, and why.

    With --measure, also how long each layer takes in integers and in float, on one thread, and for which
    layers float is faster. With --dataset, also the accumulators' bounds in bits, clipped and unused codes of
    every layer, and what would help. With --value, every step of one output's way: products, int32
    accumulator, bias, requantization, code.
    """
    from .. import graph
    from ..files import write_text

    model = graph.load(source)
    if value is not None:
        place = _place(value)
        inputs = example_inputs(model, dataset, sample + 1, data_root, download)
        trace = graph.explain_value(model, inputs, *place, sample=sample)
        typer.echo(str(trace))
        if json_file is not None:
            write_text(json_file, json.dumps(trace.to_dict(), indent=2) + "\n")
        return
    explanation = graph.explain(model)
    typer.echo(str(explanation))
    rows = explanation.to_dicts()
    if measure:
        from ..study.layer_speed import layer_speeds

        speeds = layer_speeds(model, batch_size)
        typer.echo(f"\n{speeds}")
        measured = speeds.to_dicts()
        rows = [{**row, "measured": measured.get(row["name"])} for row in rows]
    if dataset is not None:
        usage = graph.level_usage(model, example_inputs(model, dataset, images, data_root, download))
        typer.echo(f"\n{usage}")
        used = {row["layer"]: row for row in usage.to_dicts()}
        rows = [{**row, "levels": used.get(row["name"])} for row in rows]
    if json_file is not None:
        write_text(json_file, json.dumps(rows, indent=2) + "\n")


def _place(text: str) -> tuple[str, int, int, int]:
    """LAYER:CHANNEL:Y:X, or LAYER:CHANNEL."""
    layer, *numbers = text.split(":")
    if len(numbers) not in (1, 3) or not all(number.isdecimal() for number in numbers):
        raise PtqxError(f"--value must be LAYER:CHANNEL:Y:X, or LAYER:CHANNEL, got {text!r}")
    channel, y, x = map(int, [*numbers, "0", "0"][:3])
    return layer, channel, y, x
