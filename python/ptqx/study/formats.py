"""The formats that `compare` knows. A new kind is one decorated function that makes a Candidate."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._inductor import config as inductor_config

from .. import graph
from ..data import ImageDataset
from ..errors import PtqxError, unknown_name
from ..qat import QATConfig, train_quantized
from ..quant import FLOAT_DTYPES, Recipe, presets, recipe, resolve
from ..train import save_model
from .machine import native_float_types
from .report import plural
from .rounding import RoundedModel

QAT_SUFFIX = "-qat"
FLOAT16_TYPES = {name: FLOAT_DTYPES[name] for name in ("fp16", "bf16")}


@dataclass(frozen=True, eq=False)
class Task:
    """What a format is made from.

    Attributes:
        model: the float model, in eval() mode and channels_last; not to be changed.
        calibration: batches of training images.
        example: float32 (batch, C, H, W), channels_last; the batch that is timed.
        folder: where files are written.
        train, test, qat: for formats that train.
    """

    model: nn.Module
    calibration: list[Tensor]
    example: Tensor
    folder: Path
    train: Any
    test: Any
    qat: QATConfig
    progress: bool = False


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model in one format, ready to be evaluated and timed.

    Attributes:
        module: gives the logits; its top-1 is the format's.
        timed: what is timed; None if its time would mean nothing.
        kind, execution, coverage, detail: as in `Row`.
        file: the model as it is stored.
        simulated: the model before conversion, where there was one.
        layers: coverage, one entry per operation.
    """

    module: nn.Module
    timed: nn.Module | None
    kind: str
    execution: str
    file: Path
    coverage: float = 0.0
    detail: str = ""
    simulated: graph.SimulatedModel | None = None
    layers: list[dict[str, Any]] = field(default_factory=list)


Make = Callable[[str, Task], Candidate]


@dataclass(frozen=True)
class FormatKind:
    """A family of formats: the names it lists, those it accepts, and how one is made."""

    names: tuple[str, ...]
    accepts: Callable[[str], bool]
    make: Make


KINDS: list[FormatKind] = []


def register_format(
    names: Iterable[str], accepts: Callable[[str], bool] | None = None
) -> Callable[[Make], Make]:
    """Decorator: make formats known to `compare`. `accepts` takes names beyond the listed ones."""
    listed = tuple(names)

    def enter(make: Make) -> Make:
        KINDS.append(FormatKind(listed, accepts or listed.__contains__, make))
        return make

    return enter


def names() -> list[str]:
    """The formats `compare` lists: float types, recipes, and each recipe with "-qat"."""
    return [name for kind in KINDS for name in kind.names]


def expanded(formats: Iterable[str]) -> list[str]:
    """The formats by name, each once; "all" stands for every listed one that needs no training.

    >>> expanded(["int4", "all"])[:4]
    ['int4', 'fp32', 'fp16', 'bf16']
    """
    untrained = [name for name in names() if not name.endswith(QAT_SUFFIX)]
    spread = [name for given in formats for name in (untrained if given == "all" else [given])]
    return list(dict.fromkeys(spread))


def maker(name: str) -> Make:
    """The function that makes the format `name`.

    >>> maker("int9")
    Traceback (most recent call last):
    ptqx.errors.PtqxError: unknown format 'int9'; did you mean int8, int4?
    """
    for kind in KINDS:
        if kind.accepts(name):
            return kind.make
    raise unknown_name("format", name, names())


def _check_methods(name: str) -> None:
    if name.endswith(QAT_SUFFIX):
        raise PtqxError(
            f"format {name!r}: training chooses the weights itself and takes no methods; use "
            f"{name.split('+')[0] + QAT_SUFFIX!r}"
        )
    graph.check_methods(recipe(name))


def is_recipe(name: str) -> bool:
    """Whether `ptqx.quant.recipe` knows the name."""
    try:
        recipe(name)
    except PtqxError:
        return False
    return True


@register_format(["fp32"])
def float32(name: str, task: Task) -> Candidate:
    """The model as it is, timed through torch.compile."""
    timed, detail = compiled(task.model, task.example)
    file = float_file(name, task.model, task.folder)
    return Candidate(task.model, timed, "float", "float", file, detail=detail)


@register_format(FLOAT16_TYPES)
def float16(name: str, task: Task) -> Candidate:
    """fp16 and bf16: computed natively where the CPU can, else in float32 with every result rounded."""
    module, detail = in_16_bits(task.model, name)
    file = float_file(name, task.model, task.folder, FLOAT16_TYPES[name])
    if detail:
        return Candidate(module, None, "float", "simulated", file, detail=detail)
    timed, detail = compiled(module, task.example)
    return Candidate(module, timed, "float", "float", file, detail=detail)


def _takes_recipe(name: str) -> bool:
    """What is wrong with the methods of a known recipe is worth a message of its own."""
    if "+" in name and is_recipe(name.split("+")[0]):
        _check_methods(name)
    return is_recipe(name)


@register_format(presets(), _takes_recipe)
def post_training(name: str, task: Task) -> Candidate:
    """Any recipe, after training."""
    prepared = graph.calibrate(graph.prepare(task.model, name, task.example), task.calibration)
    prepared = graph.apply_methods(prepared, task.calibration, task.progress)
    return integer_candidate(name, "ptq", prepared, task)


@register_format(
    [name + QAT_SUFFIX for name in presets()],
    lambda name: name.endswith(QAT_SUFFIX) and is_recipe(name.removesuffix(QAT_SUFFIX)),
)
def quantization_aware(name: str, task: Task) -> Candidate:
    """Any recipe with "-qat": calibrated, then trained on from there."""
    if not isinstance(task.train, ImageDataset) or not isinstance(task.test, ImageDataset):
        raise PtqxError(f"format {name!r} trains, so train and test must be ptqx.data.ImageDataset")
    prepared = train_quantized(
        task.model,
        name.removesuffix(QAT_SUFFIX),
        task.train,
        task.test,
        task.qat,
        task.calibration,
        progress=task.progress,
    )
    return integer_candidate(
        name, "qat", prepared, task, f"{plural(task.qat.epochs, 'epoch')} from the calibrated model"
    )


def integer_candidate(
    name: str, kind: str, prepared: graph.SimulatedModel, task: Task, note: str = ""
) -> Candidate:
    """Converted; stored as .ptqx; run by the engine, or operator by operator where the engine can't, from the
    first such step on."""
    model = graph.convert(prepared)
    file, what_it_holds = integer_file(name, model, task.folder)
    notes = [widths(prepared.recipe), note, what_it_holds]
    module: nn.Module = model
    covered = graph.coverage(model)
    how = execution(prepared.recipe, covered)
    if how == "integer":
        try:
            module = graph.compile(model, task.example, partial=True)
            if isinstance(module, graph.PartialEngine):
                notes.append(f"{len(module.rest.graph.nodes)} steps after the engine")
        except PtqxError as error:
            notes.append(f"operator by operator: {error}")
    return Candidate(
        module=module,
        timed=None if how == "simulated" else module,
        kind=kind,
        execution=how,
        file=file,
        coverage=100.0 * covered.mac_share,
        detail="; ".join(filter(None, notes)),
        simulated=prepared,
        layers=[asdict(row) for row in covered.rows],
    )


def integer_file(name: str, model: graph.IntegerModel, folder: Path) -> tuple[Path, str]:
    """The model as NAME.ptqx in `folder`, or its tensors as NAME.safetensors where a part of it stayed a
    Python module; and a note that says so."""
    if all(node.op != "float" for node in model.graph):
        file = folder / f"{name}.ptqx"
        graph.save(model, file)
        return file, ""
    file = folder / f"{name}.safetensors"
    save_model(file, model, {"format": name})
    return file, "size of the tensors alone: a part stayed a Python module, which a .ptqx file can't hold"


def execution(chosen: Recipe, covered: graph.Coverage) -> str:
    """ "integer", or "float" for weight-only recipes, whose arithmetic is float, or "simulated" where a layer
    is."""
    if chosen.kind == "weight_only":
        return "float"
    return "simulated" if any(row.execution == "simulated" for row in covered.rows) else "integer"


def widths(chosen: Recipe) -> str:
    """Bits of weights (of layers with overrides too) and activations, and when activation ranges are found.

    >>> widths(recipe("int4")), widths(recipe("int8-dynamic")), widths(recipe("int4-weight-only"))
    ('w4a8 static', 'w8a8 dynamic', 'w4 weight-only')
    """
    overridden = [resolve(chosen, pattern)[0] for pattern in chosen.overrides]
    bits = sorted({scheme.bits for scheme in (chosen.weights, *overridden) if scheme is not None})
    weights = f"w{'-'.join(map(str, dict.fromkeys((bits[0], bits[-1]))))}" if bits else ""
    activations = f"a{chosen.activations.bits}" if chosen.activations is not None else ""
    return f"{weights}{activations} {chosen.kind.replace('_', '-')}"


def compiled(model: nn.Module, example: Tensor) -> tuple[nn.Module, str]:
    """`frozen`, or the model itself, and why, where that fails: without a C++ compiler, for one."""
    try:
        return frozen(model, example), "torch.compile, frozen"
    except Exception as error:  # the compiler's errors have no common type
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return model, f"eager: torch.compile failed ({reason[:120]})"


def frozen(model: nn.Module, example: Tensor) -> nn.Module:
    """torch.compile'd for the example's shape, with weights frozen as for inference.

    Raises:
        Exception: whatever the compiler raises.
    """
    compiled_model: Any = torch.compile(model, dynamic=False)
    # Not `options={"freezing": True}`: that comes after weights have become inputs, and freezes none.
    with inductor_config.patch(freezing=True), torch.no_grad():
        compiled_model(example)
    return compiled_model


class InType(nn.Module):
    """A copy of a model that computes in another floating type; float32 in and out."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).to(dtype)
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x.to(self.dtype))
        return logits.float()


def in_16_bits(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """A copy that computes in fp16 or bf16, and why that is simulated, or "" where the CPU does it."""
    if name in native_float_types():
        return InType(model, FLOAT16_TYPES[name]), ""
    detail = f"no {name} arithmetic on this CPU: float32, rounded after every layer"
    return RoundedModel(model, FLOAT16_TYPES[name]), detail


def float_file(name: str, model: nn.Module, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """The model's tensors in `dtype` as NAME.safetensors in `folder`."""
    path = folder / f"{name}.safetensors"
    save_model(path, copy.deepcopy(model).to(dtype), {"format": name})
    return path
