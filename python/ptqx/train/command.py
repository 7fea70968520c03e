"""`ptqx train`."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from .. import data as datasets
from .. import models
from ..errors import PtqxError
from ..files import write_text
from . import distributed
from .artifact import round_to_half, save_model
from .config import TrainConfig
from .distillation import SHARE, Distillation, fingerprint
from .evaluation import evaluate
from .gradients import Accumulation, GradientFormat
from .log import Row
from .loop import Interrupted, default_device, fit

DEFAULT = TrainConfig()
MODEL_FILE = "model.safetensors"
ModelOption = Annotated[
    list[str] | None, typer.Option(help="NAME=VALUE for the model's builder, such as shortcut=A.")
]


def train(
    model: Annotated[str, typer.Option(help="One of ptqx's models, torchvision's, or timm/NAME.")] = "cnn",
    model_option: ModelOption = None,
    dataset: Annotated[str, typer.Option(help=", ".join(datasets.names()))] = "digits",
    data_root: Annotated[Path, typer.Option(help="Folder of the data sets.")] = Path("data"),
    download: Annotated[bool, typer.Option("--download/--no-download", help="Fetch what is missing.")] = True,
    out: Annotated[Path | None, typer.Option(help="Results (default: runs/MODEL_DATASET).")] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training set.")] = DEFAULT.epochs,
    batch_size: Annotated[
        int, typer.Option(help="Images per step, over all processes.")
    ] = DEFAULT.batch_size,
    optimizer: Annotated[str, typer.Option(help="sgd (Nesterov) or adamw.")] = DEFAULT.optimizer,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = DEFAULT.lr,
    schedule: Annotated[str, typer.Option(help="cosine, one-cycle or constant.")] = DEFAULT.schedule,
    momentum: Annotated[float, typer.Option(help="Of sgd.")] = DEFAULT.momentum,
    warmup_epochs: Annotated[
        float | None, typer.Option(help="Rise to the peak (default: epochs / 8).")
    ] = None,
    weight_decay: Annotated[float, typer.Option(help="On matrices and filters only.")] = DEFAULT.weight_decay,
    label_smoothing: Annotated[float, typer.Option(help="In [0, 1).")] = DEFAULT.label_smoothing,
    clip_norm: Annotated[float, typer.Option(help="Gradient norm limit; 0 is off.")] = DEFAULT.clip_norm,
    ema: Annotated[float, typer.Option(help="Decay of the weights' moving average; 0 is off.")] = 0.0,
    amp: Annotated[str, typer.Option(help="bfloat16 autocast: auto, bf16 or off.")] = DEFAULT.amp,
    channels_last: Annotated[bool, typer.Option(help="Memory layout of the images.")] = True,
    compile: Annotated[bool, typer.Option(help="Run the model through torch.compile.")] = False,
    augment: Annotated[bool, typer.Option(help="Random crops and flips.")] = True,
    mixup: Annotated[
        float, typer.Option(help="Mix pairs of images by shares of Beta(mixup, mixup); 0 is off.")
    ] = 0.0,
    val_split: Annotated[float, typer.Option(help="Share of the training set to hold out.")] = 0.0,
    init: Annotated[
        Path | None, typer.Option(help="Fine-tune this checkpoint; a new head if needed.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue the run that --out holds.")] = True,
    half: Annotated[bool, typer.Option("--half", help="Store the result in float16.")] = False,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves torch's choice.")] = 0,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = DEFAULT.seed,
    gradient_bits: Annotated[
        int, typer.Option(help="What the processes under torchrun send each other: 32, 8, 4 or 1.")
    ] = 32,
    gradient_rounding: Annotated[
        str, typer.Option(help="Of 8 and 4 bits: nearest (the error is sent later) or stochastic.")
    ] = "nearest",
    micro_batches: Annotated[
        int, typer.Option(help="Parts of a batch that are computed one after the other, to save memory.")
    ] = 1,
    accumulation_bits: Annotated[
        int, typer.Option(help="Of the micro-batches' sum of gradients: 32, or 8 in one process.")
    ] = 32,
    teacher: Annotated[
        Path | None,
        typer.Option(help="Learn from the network of these weights: a checkpoint, or a data set."),
    ] = None,
    teacher_model: Annotated[
        str | None, typer.Option(help="What model it is of (default: that of --model).")
    ] = None,
    teacher_model_option: ModelOption = None,
    distillation: Annotated[float, typer.Option(help="Share of the teacher in the loss.")] = SHARE,
    temperature: Annotated[float, typer.Option(help="Of distillation.")] = 4.0,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also log for TensorBoard.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result here.")] = None,
) -> None:
    """Train a CNN; OUT gets model.safetensors, log.csv, config.json and the checkpoint to resume from.

    Under torchrun the batch is shared among the processes.
    """
    values = locals()
    named = {field.name: values[field.name] for field in fields(TrainConfig) if field.name in values}
    accumulation = Accumulation(micro_batches, accumulation_bits)
    config = TrainConfig(
        **named,
        gradients=_gradient_format(gradient_bits, gradient_rounding),
        accumulation=None if accumulation == Accumulation(1) else accumulation,
    )
    if teacher is None and (teacher_model is not None or teacher_model_option):
        raise PtqxError("--teacher-model needs --teacher, its checkpoint")
    if threads < 0:
        raise PtqxError(f"threads must not be negative, got {threads}")
    if threads:
        torch.set_num_threads(threads)
    given_init = None if init is None else str(init)
    summary: dict[str, Any] = {"model": model, "dataset": dataset, "init": given_init, "epochs": epochs}
    chosen = models.parse_options(model_option or [])
    summary |= chosen
    out = out or Path("runs") / f"{model}_{dataset}"
    with distributed.process_group(default_device()):
        with distributed.first_rank_first():
            train_set = datasets.load(dataset, data_root, "train", download)
            test_set = datasets.load(dataset, data_root, "test", download)
        torch.manual_seed(seed)
        options = models.image_options(model, train_set.image_shape) | chosen
        network = models.build(model, train_set.num_classes, **options)
        if init is not None:
            kept = models.load_pretrained(network, init)
            _say(f"{init}: {'head kept' if kept else 'head replaced'}")
        criterion = None
        if teacher is not None:
            of_teacher = models.image_options(teacher_model or model, train_set.image_shape)
            of_teacher |= models.parse_options(teacher_model_option or [])
            known = models.build(teacher_model or model, train_set.num_classes, weights=teacher, **of_teacher)
            criterion = Distillation(known, distillation, temperature, config, default_device())
            summary |= {"teacher": teacher_model or model, "distillation": distillation}
            summary |= {"temperature": temperature, "teacher_weights": fingerprint(known)}
        try:
            result = fit(
                network,
                train_set,
                test_set,
                config,
                out=out,
                resume=resume,
                identity=summary,
                criterion=criterion,
                tensorboard=tensorboard,
            )
        except Interrupted as interruption:
            _say(str(interruption))
            raise typer.Exit(128 + interruption.signal_number) from None
        if distributed.rank() != 0:
            return
    evaluation = evaluate(round_to_half(network), test_set) if half else result.evaluation
    summary |= {"num_classes": train_set.num_classes, **options}
    summary |= {"top1": evaluation.top1, "loss": evaluation.loss}
    path = out / MODEL_FILE
    pixels = {"mean": ",".join(map(str, train_set.mean)), "std": ",".join(map(str, train_set.std))}
    save_model(path, network, summary | pixels, half)
    _say(f"{path}: top-1 {evaluation.top1:.2f} % on {len(test_set)} test images after {epochs} epochs")
    if config.gradients is not None:
        summary |= _gradient_summary(config.gradients, result.history[-1])
    if json_file is not None:
        report = {
            "format": "fp16" if half else "fp32",
            "kind": "float",
            "execution": "float",
            **summary,
            "size_bytes": path.stat().st_size,
            "file": str(path),
            "history": result.history,
        }
        write_text(json_file, json.dumps(report, indent=2) + "\n")


def _gradient_format(bits: int, rounding: str) -> GradientFormat | None:
    if bits != 32:
        return GradientFormat(bits, rounding)
    if rounding != "nearest":
        raise PtqxError(f"gradients of 32 bits are not rounded; got rounding {rounding}")
    return None


def _gradient_summary(format: GradientFormat, row: Row) -> dict[str, Any]:
    sent, float32 = row["gradient_bytes"], row["float32_gradient_bytes"]
    _say(
        f"gradients in {format.bits} bit: every process sent {sent:,} bytes, float32 would be {float32:,} "
        f"({float32 / sent:.1f} times)"
    )
    return {
        "gradient_bits": format.bits,
        "gradient_rounding": format.rounding,
        "gradient_bytes": sent,
        "float32_gradient_bytes": float32,
    }


def _say(line: str) -> None:
    if distributed.rank() == 0:
        typer.echo(line)
