"""Quantized ONNX files of others, as .ptqx files."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from .app import app, guarded
from .options import DataRoot, Download, Json, example_inputs, integer_model_name


@app.command("import")
@guarded
def import_onnx(
    source: Annotated[Path, typer.Argument(help="A QDQ file, by ONNX Runtime's quantizer, NNCF or others.")],
    out: Annotated[
        Path | None,
        typer.Option(
            callback=integer_model_name,
            help="The integer model; .gz compresses it (default: the source's name with .ptqx).",
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Compare on images of this data set (default: on random inputs).")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Inputs to compare on.")] = 256,
    data_root: DataRoot = Path("data"),
    download: Download = True,
    json_file: Json = None,
) -> None:
    """Make a .ptqx file of a quantized CNN in an ONNX file, list how it runs, and compare both.

    Every step is compared with ONNX Runtime's, and the first that differs is named with the reason.
    """
    from .. import graph, onnx
    from ..files import write_text

    integer = onnx.load(source)
    out = out or source.with_suffix(".ptqx")
    graph.save(integer, out)
    typer.echo(str(graph.coverage(integer)))
    typer.echo(f"{out}: {out.stat().st_size:,} bytes")
    if find_spec("onnxruntime") is None:
        typer.echo("not compared: pip install 'ptqx[onnx]' brings ONNX Runtime")
        return
    verdict = onnx.verify(integer, source, example_inputs(integer, dataset, samples, data_root, download))
    typer.echo(str(verdict))
    if json_file is not None:
        write_text(json_file, json.dumps(verdict.to_dict(), indent=2) + "\n")
