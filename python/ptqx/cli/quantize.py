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
    Methods,
    Model,
    ModelOption,
    Out,
    RecipeName,
    Seed,
    Threads,
    Weights,
    split_names,
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
    methods: Methods = None,
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
    from ..quant import recipe as find_recipe

    if methods is not None:
        recipe = "+".join([recipe.split("+")[0], *split_names(methods)])
    graph.check_methods(find_recipe(recipe))
    work = workload(model, dataset, weights, data_root, download, model_option)
    use_threads(threads)
    batches = Loader(calibration_split(work.train, calibration, seed), 128)
    integer = graph.quantize(work.model, batches, recipe, progress=True)
    finish(integer, work, recipe, "ptq", out or Path(f"{model}_{dataset}_{recipe}.ptqx"), json_file)
