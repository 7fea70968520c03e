"""Post-training quantization of a checkpoint."""

from __future__ import annotations

from pathlib import Path

from .app import app, guarded
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
def quantize(
    weights: Weights,
    model: Model,
    dataset: Dataset,
    recipe: RecipeName = "int8",
    out: Out = None,
    data_root: DataRoot = Path("data"),
    download: Download = True,
    model_option: ModelOption = None,
    calibration: Calibration = 1024,
    threads: Threads = None,
    seed: Seed = 0,
    json_file: Json = None,
) -> None:
    """Quantize a trained CNN: writes a .ptqx file, lists how every operation runs, and tests it."""
    from .. import graph
    from ..data import Loader, calibration_split

    work = workload(model, dataset, weights, data_root, download, model_option)
    use_threads(threads)
    batches = Loader(calibration_split(work.train, calibration, seed), 128)
    integer = graph.quantize(work.model, batches, recipe)
    finish(integer, work, recipe, "ptq", out or Path(f"{model}_{dataset}_{recipe}.ptqx"), json_file)
