"""Pruning, distillation and quantization in one go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app, guarded, say_error
from .options import (
    Calibration,
    DataRoot,
    Dataset,
    Download,
    Json,
    Model,
    ModelOption,
    RecipeName,
    Seed,
    Threads,
    Weights,
    workload,
)


@app.command()
@guarded
def prune(
    weights: Weights,
    model: Model,
    dataset: Dataset,
    share: Annotated[float, typer.Option(help="To remove, by whole channels; 0 removes none.")] = 0.5,
    of: Annotated[str, typer.Option(help="What of: parameters, macs or channels.")] = "parameters",
    importance: Annotated[str, typer.Option(help="Of channels: magnitude or batch_norm.")] = "magnitude",
    allocation: Annotated[
        str,
        typer.Option(
            help="global: where channels matter least; cost: least for what they cost; uniform: the same "
            "share of every layer."
        ),
    ] = "global",
    least: Annotated[float, typer.Option(help="Share of its channels that every layer keeps.")] = 0.1,
    multiple: Annotated[int, typer.Option(min=1, help="Of channels that layers keep.")] = 8,
    sparsity: Annotated[
        str | None, typer.Option(help="Weights held at zero: a share such as 0.5, or a pattern such as 2:4.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Times to remove channels and train.")] = 1,
    epochs: Annotated[int, typer.Option(min=1, help="Of training in every round.")] = 5,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 0.02,
    distill: Annotated[float, typer.Option(help="Share of the teacher in the loss; 0 is off.")] = 0.9,
    temperature: Annotated[float, typer.Option(help="Of distillation.")] = 4.0,
    train_images: Annotated[
        int | None, typer.Option(min=1, help="Train on so many images (default: all).")
    ] = None,
    recipe: RecipeName = "int8",
    qat_epochs: Annotated[int, typer.Option(min=0, help="Train on as integers; 0 does not.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Results (default: runs/MODEL_DATASET_pruned).")] = None,
    resume: Annotated[bool, typer.Option(help="Continue the run that --out holds.")] = True,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch when timing.")] = 64,
    data_root: DataRoot = Path("data"),
    download: Download = True,
    model_option: ModelOption = None,
    calibration: Calibration = 1024,
    threads: Threads = None,
    seed: Seed = 0,
    json_file: Json = None,
) -> None:
    """Remove channels or weights of a trained CNN, train what is left with the CNN as teacher, quantize it.

    A table says what each step does to accuracy, parameters, multiplications, file size and latency. OUT gets
    pruned.safetensors, which --weights of all commands takes, and pruned.ptqx.
    """
    from ..data import calibration_split
    from ..qat import QATConfig
    from ..sparsity import parse_pattern
    from ..study.pruning import PruneConfig, fine_tuning
    from ..study.pruning import prune as run_prune
    from ..train import Interrupted

    config = PruneConfig(
        share=share,
        of=of,
        importance=importance,
        allocation=allocation,
        least=least,
        multiple=multiple,
        rounds=rounds,
        pattern=None if sparsity is None else parse_pattern(sparsity),
        train=fine_tuning(epochs, lr, seed),
        distillation=distill,
        temperature=temperature,
        recipe=recipe,
        qat=QATConfig(epochs=qat_epochs, distillation=distill, seed=seed) if qat_epochs else None,
    )
    work = workload(model, dataset, weights, data_root, download, model_option)
    train = work.train if train_images is None else calibration_split(work.train, train_images, seed)
    out = out or Path("runs") / f"{model}_{dataset}_pruned"
    try:
        result = run_prune(
            work.model,
            train,
            work.test,
            config,
            out=out,
            resume=resume,
            batch_size=batch_size,
            threads=threads,
            calibration=calibration,
        )
    except Interrupted as interruption:
        say_error(str(interruption))
        raise typer.Exit(128 + interruption.signal_number) from None
    typer.echo(result.to_markdown())
    typer.echo(f"{out / 'pruned.safetensors'} and {out / 'pruned.ptqx'} hold the result")
    if json_file is not None:
        result.to_json(json_file)
