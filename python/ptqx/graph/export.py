"""export: programs of PyTorch's that run an integer network, in Python or from C++ without it."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import PtqxError, unknown_name
from ..files import atomic_write
from .capture import example_tensor
from .engine import Engine
from .integer import IntegerModel
from .partial import PartialEngine
from .structure import require_equal

FORMATS = ("aot-inductor", "torch-export")


@torch.no_grad()
def export(
    model: IntegerModel | Engine | PartialEngine,
    path: str | os.PathLike[str],
    example_inputs: Any,
    format: str = "aot-inductor",
) -> None:
    """Write a .pt2 file that runs `model` for any batch size, load it again and compare.

    An `Engine` becomes one call of `torch.ops.ptqx.engine_run` (or `engine_run_outputs`), an `IntegerModel`
    one operator a layer. Whoever loads the file needs the library of operators: `import ptqx`, or
    `libptqx_ops.so` in C++.

    Args:
        model: of `ptqx.compile`, `ptqx.convert` or `ptqx.load`.
        path: the file; ONNX files are written by `ptqx.onnx.export`.
        example_inputs: a tensor of the shape it takes, or a tuple with one.
        format: "aot-inductor" compiles to machine code, for `torch._inductor.aoti_load_package` or
            `torch::inductor::AOTIModelPackageLoader`; needs a C++ compiler. "torch-export" is a graph, for
            `torch.export.load`.

    Raises:
        PtqxError: no such model or format, an example that does not fit, or a file whose outputs differ.
    """
    if not isinstance(model, IntegerModel | Engine | PartialEngine):
        raise PtqxError(f"model: expected an integer model or an engine, got {type(model).__name__}")
    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    if Path(path).suffix == ".onnx":
        raise PtqxError(f"{path}: a PyTorch program ({format}) under the name of an ONNX file; use .pt2")
    example = example_tensor(example_inputs)
    example = example if len(example) > 1 else torch.cat([example, example])  # 1 would be taken as a constant
    expected = model(example)
    with warnings.catch_warnings(), atomic_write(path) as partial:
        warnings.simplefilter("ignore", FutureWarning)  # torch's own
        program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        got = _written(program, Path(partial), format)(example)
        require_equal(got, expected, f"the exported program ({format}) differs from the model")


def _written(program: torch.export.ExportedProgram, path: Path, format: str) -> Any:
    """The program, loaded again from the file."""
    package = path.with_name(path.name + ".pt2")  # torch wants a name that ends so
    try:
        if format == "torch-export":
            torch.export.save(program, package)
            loaded: Any = torch.export.load(package).module()
        else:
            torch._inductor.aoti_compile_and_package(program, package_path=str(package))
            loaded = torch._inductor.aoti_load_package(str(package))
        os.replace(package, path)
    finally:
        package.unlink(missing_ok=True)

    def run(x: Tensor) -> Any:
        return loaded(x)

    return run
