"""The command line: demo, train, quantize, qat, export, explain, compare, scalings, bench, report, info.

Commands import what they need when they run, so that help and errors come at once.
"""

from __future__ import annotations

import functools
import json
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer
import typer.main

from .errors import PtqxError

if TYPE_CHECKING:
    from .graph import IntegerModel
    from .study.workload import Workload

P = ParamSpec("P")
BAD_INPUT, INTERRUPTED = 2, 130
# The base of every mistake in the arguments themselves; typer exports only some of its children.
UsageMistake: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")

app = typer.Typer(
    help="Quantize CNNs in PyTorch to integers and run them on the CPU.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Model = Annotated[str, typer.Option(help="One of ptqx's models, or torchvision's.")]
Dataset = Annotated[str, typer.Option(help="cifar10, cifar100, mnist, fashion_mnist or digits.")]
Weights = Annotated[Path, typer.Option(help="The model's checkpoint: .safetensors, .pt, .pth or .th.")]
ModelOption = Annotated[
    list[str] | None, typer.Option(help="NAME=VALUE for the model's builder, such as shortcut=B.")
]
DataRoot = Annotated[Path, typer.Option(help="Folder of the data sets.")]
Download = Annotated[bool, typer.Option("--download/--no-download", help="Fetch what is missing.")]
Calibration = Annotated[int, typer.Option(min=1, help="Training images to calibrate with.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads [default: torch's choice].")]
Seed = Annotated[int, typer.Option(help="Of everything random.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the result here.")]
Html = Annotated[Path | None, typer.Option("--html", help="Write a report to read here.")]
Out = Annotated[Path | None, typer.Option(help="The integer model [default: MODEL_DATASET_RECIPE.ptqx].")]
RecipeName = Annotated[
    str, typer.Option(help="int8, int8-dynamic, int4, w4a4, ...; any wNaM of 2 to 8 bits.")
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 2 for wrong input, 130 after Ctrl-C."""
    try:
        status = typer.main.get_command(app).main(arguments, prog_name="ptqx", standalone_mode=False)
    except UsageMistake as error:
        message = error.format_message()
        command = error.ctx.command_path if error.ctx else "ptqx"
        if message:
            _say_error(f"{message} (see {command} --help)")
        return int(error.exit_code)
    except typer.Abort:
        return INTERRUPTED
    return status if isinstance(status, int) else 0


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Decorator: wrong input is one line and status 2, Ctrl-C one line and 130; PTQX_DEBUG=1 shows more."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            _say_error("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except (PtqxError, OSError) as error:
            if os.environ.get("PTQX_DEBUG") == "1":
                traceback.print_exc()
            _say_error(str(error))
            raise typer.Exit(BAD_INPUT) from None

    return run


@app.command()
@guarded
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo"),
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    epochs: Annotated[int, typer.Option(min=1, help="Of training the float model.")] = 12,
) -> None:
    """Train a small CNN on embedded digits and compare it from fp32 down to 3 bits, in about a minute."""
    from .study.demo import demo as run_demo

    report = run_demo(out, epochs=epochs, threads=threads)
    typer.echo(f"\n{report.to_markdown()}\n")
    typer.echo(f"{out / 'report.html'} is the report to open; {out / 'results.json'} holds its numbers.")


@app.command(
    add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
@guarded
def train(context: typer.Context) -> None:
    """Train a CNN on one of the data sets, or fine-tune a checkpoint."""
    from .train import command

    trainer = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    trainer.command()(command.train)
    status = typer.main.get_command(trainer).main(context.args, prog_name="ptqx train", standalone_mode=False)
    if status:
        raise typer.Exit(status)


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
    from . import graph
    from .data import Loader, calibration_split

    work = _workload(model, dataset, weights, data_root, download, model_option)
    _use_threads(threads)
    batches = Loader(calibration_split(work.train, calibration, seed), 128)
    integer = graph.quantize(work.model, batches, recipe)
    _finish(integer, work, recipe, "ptq", out or Path(f"{model}_{dataset}_{recipe}.ptqx"), json_file)


@app.command()
@guarded
def qat(
    weights: Weights,
    model: Model,
    dataset: Dataset,
    recipe: RecipeName = "int4",
    out: Out = None,
    run_folder: Annotated[
        Path | None, typer.Option(help="Log and checkpoint [default: runs/MODEL_DATASET_RECIPE-qat].")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training set.")] = 5,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 0.01,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per step.")] = 128,
    resume: Annotated[bool, typer.Option(help="Continue the run that --run-folder holds.")] = True,
    data_root: DataRoot = Path("data"),
    download: Download = True,
    model_option: ModelOption = None,
    calibration: Calibration = 1024,
    threads: Threads = None,
    seed: Seed = 0,
    json_file: Json = None,
) -> None:
    """Quantization-aware training: calibrate, train on, convert; writes a .ptqx file and tests it."""
    from . import graph
    from .data import Loader, calibration_split
    from .study.qat import train_quantized
    from .train import Interrupted, TrainConfig

    work = _workload(model, dataset, weights, data_root, download, model_option)
    _use_threads(threads)
    try:
        prepared = train_quantized(
            work.model,
            recipe,
            work.train,
            work.test,
            TrainConfig(epochs=epochs, lr=lr, batch_size=batch_size, warmup_epochs=0.0, seed=seed),
            Loader(calibration_split(work.train, calibration, seed), 128),
            out=run_folder or Path("runs") / f"{model}_{dataset}_{recipe}-qat",
            resume=resume,
            identity={"model": model, "dataset": dataset, "recipe": recipe, "weights": str(weights)},
        )
    except Interrupted as interruption:
        _say_error(str(interruption))
        raise typer.Exit(128 + interruption.signal_number) from None
    integer = graph.convert(prepared)
    _finish(integer, work, recipe, "qat", out or Path(f"{model}_{dataset}_{recipe}-qat.ptqx"), json_file)


@app.command()
@guarded
def export(
    source: Annotated[Path, typer.Argument(help="A .ptqx file that quantize or qat wrote.")],
    out: Annotated[Path, typer.Option(help="The file to write, .pt2.")],
    to: Annotated[
        str, typer.Option(help="aot-inductor (machine code, also for C++) or torch-export (a graph).")
    ] = "aot-inductor",
    layers: Annotated[
        bool, typer.Option("--layers/--engine", help="One operator a layer, or one for the whole network.")
    ] = False,
) -> None:
    """Make a PyTorch program of a .ptqx file, for any batch size."""
    import torch

    from . import graph

    integer = graph.load(source)
    example = torch.zeros(2, *integer.graph.input_shape)
    graph.export(integer if layers else graph.compile(integer, example), out, example, to)
    typer.echo(f"{out}: {out.stat().st_size:,} bytes")


@app.command()
@guarded
def explain(
    source: Annotated[Path, typer.Argument(help="A .ptqx file that quantize or qat wrote.")],
    json_file: Json = None,
) -> None:
    """List what runs for every layer on this CPU: kernel, tile, multiplications, bytes, and why."""
    from . import graph
    from .files import write_text

    explanation = graph.explain(graph.load(source))
    typer.echo(str(explanation))
    if json_file is not None:
        write_text(json_file, json.dumps(explanation.to_dicts(), indent=2) + "\n")


@app.command()
@guarded
def compare(
    weights: Weights,
    model: Model,
    dataset: Dataset,
    formats: Annotated[
        str, typer.Option(help="Separated by commas: fp32, fp16, bf16, any recipe, any recipe-qat.")
    ] = "fp32,fp16,bf16,int8,int4",
    data_root: DataRoot = Path("data"),
    download: Download = True,
    model_option: ModelOption = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch when timing.")] = 64,
    calibration: Calibration = 1024,
    qat_epochs: Annotated[int, typer.Option(min=1, help="Training of -qat formats.")] = 5,
    threads: Threads = None,
    seed: Seed = 0,
    save_to: Annotated[
        Path | None, typer.Option(help="Keep the files of all formats in this folder.")
    ] = None,
    json_file: Json = None,
    html: Html = None,
) -> None:
    """Compare a trained CNN in several formats: accuracy, size, latency, coverage."""
    from .study import compare as run_compare
    from .study.formats import maker
    from .train import TrainConfig

    names = _names(formats)
    for name in names:
        maker(name)
    work = _workload(model, dataset, weights, data_root, download, model_option)
    report = run_compare(
        work.model,
        work.train,
        work.test,
        names,
        batch_size=batch_size,
        threads=threads,
        calibration=calibration,
        seed=seed,
        qat=TrainConfig(epochs=qat_epochs, lr=0.01, warmup_epochs=0.0, seed=seed),
        save_to=save_to,
        info={"model": model, "dataset": dataset, "weights": str(weights), "command": _command_line()},
    )
    typer.echo(report.to_markdown())
    if json_file is not None:
        report.to_json(json_file)
    if html is not None:
        report.to_html(html)


@app.command()
@guarded
def scalings(
    weights: Weights,
    model: Model,
    dataset: Dataset,
    bits: Annotated[str, typer.Option(help="Widths of the weights, separated by commas.")] = "8,4",
    data_root: DataRoot = Path("data"),
    download: Download = True,
    model_option: ModelOption = None,
    seed: Seed = 0,
    json_file: Json = None,
) -> None:
    """Scale weights by max-abs, 3 sigma and percentile, per tensor and per channel: SQNR and top-1."""
    from .files import write_text
    from .study import scalings as run_scalings

    widths = _numbers("--bits", bits)
    work = _workload(model, dataset, weights, data_root, download, model_option)
    table = run_scalings(work.model, work.test, bits=widths, seed=seed)
    typer.echo(table.to_markdown())
    if json_file is not None:
        write_text(json_file, json.dumps(table.to_dicts(), indent=2) + "\n")


@app.command()
@guarded
def bench(
    models: Annotated[
        str, typer.Option(help="Separated by commas; ptqx's own see 32x32 images, torchvision's 224x224.")
    ] = "vgg11_bn,resnet20",
    batch: Annotated[str, typer.Option(help="Images at a time, separated by commas.")] = "1,64",
    threads: Annotated[
        str | None, typer.Option(help="Separated by commas [default: 1 and torch's choice].")
    ] = None,
    engines: Annotated[
        str | None, typer.Option(help="Separated by commas: ptqx, openvino, torch-fp32, ... [default: all].")
    ] = None,
    rounds: Annotated[int, typer.Option(min=2, help="Times that every engine has its turn.")] = 7,
    layers: Annotated[
        bool, typer.Option("--layers", help="Also time each step of ptqx's engine, on one thread.")
    ] = False,
    json_file: Json = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the tables here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the speeds: .png, .svg or .pdf.")] = None,
) -> None:
    """Time CNNs against OpenVINO, ONNX Runtime and PyTorch in one process, and what the machine can do."""
    from .files import write_text
    from .study.bench import bench as run_bench
    from .study.bench.plot import check_plot_name

    if plot is not None:
        check_plot_name(plot)
    result = run_bench(
        _names(models),
        _numbers("--batch", batch),
        None if threads is None else _numbers("--threads", threads),
        None if engines is None else _names(engines),
        rounds=rounds,
        layers=layers,
    )
    text = result.to_markdown()
    typer.echo(text)
    if json_file is not None:
        result.to_json(json_file)
    if markdown is not None:
        write_text(markdown, text + "\n")
    if plot is not None:
        result.to_plot(plot)


@app.command()
@guarded
def report(
    results: Annotated[Path, typer.Argument(help="JSON that compare or demo wrote.")],
    html: Annotated[Path, typer.Option("--html", help="The page.")] = Path("report.html"),
) -> None:
    """Make the HTML report again from a comparison's JSON."""
    from .study import read_report

    read_report(results).to_html(html)
    typer.echo(f"{html} is the report to open.")


@app.command()
@guarded
def info(json_file: Json = None) -> None:
    """Versions, processor, kernels, threads, and what is missing."""
    from .files import write_text
    from .study import environment

    facts = environment.environment()
    typer.echo(environment.text(facts))
    if json_file is not None:
        write_text(json_file, json.dumps(facts, indent=2) + "\n")


def _workload(
    model: str, dataset: str, weights: Path, data_root: Path, download: bool, model_option: list[str] | None
) -> Workload:
    from .study.workload import load_workload

    return load_workload(
        model,
        dataset,
        weights,
        root=data_root,
        download=download,
        options=_parsed_options(model_option or []),
    )


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(option: str, text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise PtqxError(f"{option} must be whole numbers separated by commas, got {text!r}") from None


def _parsed_options(pairs: list[str]) -> dict[str, Any]:
    """NAME=VALUE pairs; a value that is a number becomes one."""
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise PtqxError(f"--model-option must be NAME=VALUE, got {pair!r}")
        options[name] = int(value) if value.isdecimal() else value
    return options


def _finish(
    model: IntegerModel, work: Workload, recipe: str, kind: str, out: Path, json_file: Path | None
) -> None:
    """Write, test and describe an integer model."""
    from dataclasses import asdict

    from . import graph
    from .files import write_text
    from .quant import recipe as find_recipe
    from .study.formats import execution
    from .train import evaluate

    test = work.test
    graph.save(model, out, image=graph.ImageOptions(test.mean, test.std, classes=test.classes))
    covered = graph.coverage(model)
    top1 = evaluate(model, work.test).top1
    typer.echo(str(covered))
    typer.echo(f"{out}: {out.stat().st_size:,} bytes, top-1 {top1:.2f} % on {len(work.test)} test images")
    if json_file is not None:
        result = {
            "format": recipe,
            "kind": kind,
            "execution": execution(find_recipe(recipe)),
            "top1": top1,
            "size_bytes": out.stat().st_size,
            "coverage": 100.0 * covered.mac_share,
            "layers": [asdict(row) for row in covered.rows],
            "file": str(out),
        }
        write_text(json_file, json.dumps(result, indent=2) + "\n")


def _use_threads(threads: int | None) -> None:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


def _command_line() -> str:
    return shlex.join(["ptqx", *sys.argv[1:]])


def _say_error(message: str) -> None:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
