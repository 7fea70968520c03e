"""PyTorch programs and ONNX files of integer models."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import PtqxError
from .app import app, guarded
from .options import DataRoot, Download, Json, example_inputs

if TYPE_CHECKING:
    from torch import Tensor

    from ..graph import IntegerModel


@app.command()
@guarded
def export(
    source: Annotated[Path, typer.Argument(help="A .ptqx file that quantize or qat wrote.")],
    out: Annotated[Path, typer.Option(help="The file to write, .pt2 or .onnx.")],
    to: Annotated[
        str | None,
        typer.Option(
            help="aot-inductor (machine code, also for C++), torch-export (a graph) or onnx "
            "(default: onnx for .onnx, else aot-inductor)."
        ),
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers/--engine", help="One operator a layer, or one for the whole network.")
    ] = False,
    style: Annotated[
        str, typer.Option(help="ONNX: qdq, which runtimes turn into their kernels, or integer (exact).")
    ] = "qdq",
    int4: Annotated[
        bool, typer.Option("--int4/--int8", help="ONNX: 4-bit weights as INT4, or all of them as INT8.")
    ] = True,
    dataset: Annotated[
        str | None, typer.Option(help="ONNX: check on images of this data set (default: on random inputs).")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="ONNX: inputs to check on.")] = 256,
    data_root: DataRoot = Path("data"),
    download: Download = True,
    json_file: Json = None,
) -> None:
    """Make a PyTorch program or an ONNX file of a .ptqx file, for any batch size.

    An ONNX file is run in ONNX Runtime, and every step compared with the integer model.
    """
    import torch

    from .. import graph

    to = to or ("onnx" if out.suffix == ".onnx" else "aot-inductor")
    if to != "onnx" and (dataset is not None or json_file is not None):
        raise PtqxError(f"--dataset and --json are of the comparison of ONNX files, and --to is {to}")
    integer = graph.load(source)
    if to == "onnx":
        inputs = example_inputs(integer, dataset, samples, data_root, download)
        _export_onnx(integer, out, style, int4, inputs, json_file)
        return
    example = torch.zeros(2, *integer.graph.input_shape)
    graph.export(integer if layers else graph.compile(integer, example), out, example, to)
    typer.echo(f"{out}: {out.stat().st_size:,} bytes")


def _export_onnx(
    integer: IntegerModel, out: Path, style: str, int4: bool, inputs: Tensor, json_file: Path | None
) -> None:
    from .. import onnx
    from ..files import write_text

    onnx.export(integer, out, inputs, style, int4)
    typer.echo(f"{out}: {out.stat().st_size:,} bytes, onnx.checker finds no fault")
    if find_spec("onnxruntime") is None:
        typer.echo("not compared: pip install 'ptqx[onnx]' brings ONNX Runtime")
        return
    verdict = onnx.verify(integer, out, inputs)
    typer.echo(str(verdict))
    if style == "qdq" and not verdict.codes_equal:
        typer.echo(
            "equal to the bit with --style integer; integer kernels for more layers, additions among them, "
            "by quantize --target onnxruntime --fit"
        )
    if json_file is not None:
        write_text(json_file, json.dumps(verdict.to_dict(), indent=2) + "\n")
