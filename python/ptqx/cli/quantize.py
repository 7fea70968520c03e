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
    Fit,
    Json,
    Methods,
    Model,
    ModelOption,
    Out,
    Overrides,
    RecipeName,
    Seed,
    Target,
    Threads,
    Weights,
    recipe_for,
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
    overrides: Overrides = None,
    target: Target = None,
    fit: Fit = False,
    out: Out = None,
    data_root: DataRoot = Path("data"),
    download: Download = True,
    model_option: ModelOption = None,
    calibration: Calibration = 1024,
    threads: Threads = None,
    seed: Seed = 0,
    json_file: Json = None,
) -> None:
    """Quantize a trained CNN: writes a .ptqx file, lists how every operation runs, and tests it.

    With --target, a recipe that the target can't express is refused with what to change, or changed (--fit).
    """
    from .. import graph
    from ..data import Loader, calibration_split

    if methods is not None:
        recipe = "+".join([recipe.split("+")[0], *split_names(methods)])
    name, chosen = recipe_for(recipe, target, fit, overrides)
    graph.check_methods(chosen)
    work = workload(model, dataset, weights, data_root, download, model_option)
    use_threads(threads)
    batches = Loader(calibration_split(work.train, calibration, seed), 128)
    integer = graph.quantize(work.model, batches, chosen, progress=True)
    finish(integer, work, name, chosen, "ptq", out or Path(f"{model}_{dataset}_{name}.ptqx"), json_file)
