"""How quantize and qat end: the model is written, tested and described."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from ..graph import IntegerModel
    from ..quant import Recipe
    from ..study.workload import Workload


def finish(
    model: IntegerModel,
    work: Workload,
    name: str,
    chosen: Recipe,
    kind: str,
    out: Path,
    json_file: Path | None,
) -> None:
    """Write, test and describe an integer model; `name` is what its recipe is called."""
    from dataclasses import asdict

    from .. import graph
    from ..files import write_text
    from ..graph.compression import SUFFIX
    from ..graph.io import to_bytes
    from ..study.formats import execution
    from ..train import evaluate

    test = work.test
    graph.save(model, out, image=graph.ImageOptions(test.mean, test.std, classes=test.classes))
    covered = graph.coverage(model)
    top1 = evaluate(model, work.test).top1
    typer.echo(str(covered))
    plain_size = len(to_bytes(model))
    if out.suffix == SUFFIX:
        typer.echo(f"compressed from {plain_size:,} bytes to {100 * out.stat().st_size / plain_size:.1f} %")
    typer.echo(f"{out}: {out.stat().st_size:,} bytes, top-1 {top1:.2f} % on {len(work.test)} test images")
    if json_file is not None:
        result = {
            "format": name,
            "kind": kind,
            "execution": execution(chosen, covered),
            "top1": top1,
            "size_bytes": out.stat().st_size,
            "plain_size_bytes": plain_size,
            "coverage": 100.0 * covered.mac_share,
            "layers": [asdict(row) for row in covered.rows],
            "file": str(out),
        }
        write_text(json_file, json.dumps(result, indent=2) + "\n")
