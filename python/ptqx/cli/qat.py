"""Quantization-aware training from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import PtqxError
from .app import app, guarded, say_error
from .finish import finish
from .options import (
    Calibration,
    DataRoot,
    Dataset,
    Download,
    Fit,
    Json,
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
    split_numbers,
    use_threads,
    workload,
)

if TYPE_CHECKING:
    from torch import nn

    from ..study.workload import Workload

CHOSEN = "(default: chosen from bits and epochs)"


@app.command()
@guarded
def qat(
    weights: Weights,
    model: Model,
    dataset: Dataset,
    recipe: RecipeName = "int4",
    overrides: Overrides = None,
    target: Target = None,
    fit: Fit = False,
    out: Out = None,
    run_folder: Annotated[
        Path | None,
        typer.Option(help="Log, checkpoint, best model so far (default: runs/MODEL_DATASET_RECIPE-qat)."),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training set.")] = 5,
    quantizer: Annotated[str, typer.Option(help="lsq, lsq_plus, pact, moving_average or fixed.")] = "lsq",
    lr: Annotated[float | None, typer.Option(help=f"Peak learning rate {CHOSEN}.")] = None,
    scale_lr: Annotated[float, typer.Option(help="That of scales, as a multiple of it.")] = 1.0,
    weight_decay: Annotated[float | None, typer.Option(help=f"On matrices and filters {CHOSEN}.")] = None,
    clip_decay: Annotated[float, typer.Option(help="Weight decay of PACT's clips.")] = 1e-4,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per step.")] = 128,
    optimizer: Annotated[str, typer.Option(help="sgd (Nesterov) or adamw.")] = "sgd",
    ema: Annotated[float, typer.Option(help="Decay of the weights' moving average; 0 is off.")] = 0.0,
    distill: Annotated[
        bool, typer.Option("--distill", help="Learn from a teacher: the float model, or --teacher.")
    ] = False,
    teacher: Annotated[
        Path | None, typer.Option(help="The teacher's weights, as --weights; implies --distill.")
    ] = None,
    teacher_model: Annotated[
        str | None, typer.Option(help="What model it is of (default: that of --model).")
    ] = None,
    teacher_model_option: ModelOption = None,
    temperature: Annotated[float, typer.Option(help="Of distillation.")] = 4.0,
    progressive: Annotated[
        str | None, typer.Option(help=f"Bits before the recipe's own, such as 8,4,3, or none {CHOSEN}.")
    ] = None,
    freeze_oscillating: Annotated[
        float | None, typer.Option(help=f"Oscillations per step that freeze a weight; 0 is off {CHOSEN}.")
    ] = None,
    freeze_batch_norm: Annotated[
        float | None, typer.Option(help=f"Share of the run whose statistics rest, its end {CHOSEN}.")
    ] = None,
    val_split: Annotated[
        float, typer.Option(help="Share of the training set to watch the integer model on.")
    ] = 0.04,
    compile: Annotated[bool, typer.Option(help="Run the model through torch.compile.")] = False,
    mixup: Annotated[
        float, typer.Option(help="Mix pairs of images by shares of Beta(mixup, mixup); 0 is off.")
    ] = 0.0,
    resume: Annotated[bool, typer.Option(help="Continue the run that --run-folder holds.")] = True,
    data_root: DataRoot = Path("data"),
    download: Download = True,
    model_option: ModelOption = None,
    calibration: Calibration = 1024,
    threads: Threads = None,
    seed: Seed = 0,
    json_file: Json = None,
) -> None:
    """Quantization-aware training: calibrate, train on, convert; writes a .ptqx file and tests it.

    The integer model is evaluated after every epoch, on images held out from the training set; log.csv in the
    run's folder has its accuracy, row 0 before training. Under torchrun the batch is shared among the
    processes.
    """
    from .. import graph
    from ..data import Loader, calibration_split
    from ..qat import QATConfig, train_quantized
    from ..train import SHARE, Interrupted, distributed
    from ..train.loop import default_device

    name, chosen = recipe_for(recipe, target, fit, overrides, quantizer)
    config = QATConfig(
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        lr=lr,
        scale_lr=scale_lr,
        weight_decay=weight_decay,
        clip_decay=clip_decay,
        ema=ema,
        distillation=SHARE if distill or teacher is not None else 0.0,
        temperature=temperature,
        progressive=_widths(progressive),
        freeze_oscillating=freeze_oscillating,
        freeze_batch_norm=freeze_batch_norm,
        val_split=val_split,
        compile=compile,
        mixup=mixup,
        seed=seed,
    )
    config.resolved(chosen)
    if teacher is None and (teacher_model is not None or teacher_model_option):
        raise PtqxError("--teacher-model needs --teacher, its checkpoint")
    use_threads(threads)
    with distributed.process_group(default_device()):
        with distributed.first_rank_first():
            work = workload(model, dataset, weights, data_root, download, model_option)
        taught_by = None
        if teacher is not None:
            taught_by = _teacher(teacher_model or model, teacher, work, teacher_model_option)
        try:
            prepared = train_quantized(
                work.model,
                chosen,
                work.train,
                work.test,
                config,
                Loader(calibration_split(work.train, calibration, seed), 128),
                out=run_folder or Path("runs") / f"{model}_{dataset}_{name}-qat",
                resume=resume,
                identity={"model": model, "dataset": dataset, "calibration": calibration},
                teacher=taught_by,
            )
        except Interrupted as interruption:
            say_error(str(interruption))
            raise typer.Exit(128 + interruption.signal_number) from None
        if distributed.rank() != 0:
            return
    _say_history(prepared.history)
    integer = graph.convert(prepared)
    finish(integer, work, name, chosen, "qat", out or Path(f"{model}_{dataset}_{name}-qat.ptqx"), json_file)


def _widths(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    return () if text == "none" else tuple(split_numbers("--progressive", text))


def _teacher(name: str, checkpoint: Path, work: Workload, model_option: list[str] | None) -> nn.Module:
    from .. import models

    options = models.image_options(name, work.train.image_shape) | models.parse_options(model_option or [])
    return models.build(name, work.train.num_classes, weights=checkpoint, **options)


def _say_history(history: list[dict[str, Any]]) -> None:
    for row in history:
        before = "calibrated" if row["epoch"] == 0 else f"epoch {row['epoch']}"
        typer.echo(
            f"{before}: w{row['weight_bits']}a{row['activation_bits']}, integer top-1 "
            f"{row['val_top1']:.2f} % held out, {row['test_top1']:.2f} % test"
        )
